//! `convert MODEL.gguf FOLDER` writes the folder; `convert MODEL.gguf` says what is in the file.

use std::io::Write;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let said = match arguments.as_slice() {
        [file] => serde_json::to_string_pretty(&neutral_gguf::describe(Path::new(file))?)?,
        [file, folder] => {
            serde_json::to_string(&neutral_gguf::convert(Path::new(file), Path::new(folder))?)?
        }
        _ => return Err("give a GGUF file, and a folder to convert it to".into()),
    };
    writeln!(std::io::stdout(), "{said}")?;
    Ok(())
}
