//! Which Python functions of task files have counterparts here.
//!
//! A function is known by its name and the SHA-256 of the file that holds it, as lm-evaluation-harness
//! 0.4.13 ships it: another file of the same name may do anything. Neutral's own task files name
//! `neutral_tasks.MODULE_FUNCTION` instead, or `neutral_tasks.MODULE` for a `process_docs`.

use crate::metric::Aggregation;
use crate::yaml::Function;

/// The Python module beside neutral's task files whose functions have counterparts here.
const OWN: &str = "neutral_tasks";

/// Files of the harness: SHA-256, and the name that the file goes by here.
const MODULES: [(&str, &str); 34] = [
    ("82505ac03d1c56cbf95d7302fc488e3d37626403beb03955218e12ed1464e587", "afrixnli_1"),
    ("c1cfe92751ffca6e996433908d6fd81b44e61a6fd772365f59615da26927194f", "afrixnli_2"),
    ("da353b79ae670e9dfdabfb072ca091751216dfd7a13e696cb79ab7e8bb35f5b1", "afrixnli_3"),
    ("e31e27913231afd0a270429d0089b06d16d684f1d34714e67a67888da770614e", "afrixnli_3"),
    ("5333bec1a17f37cf348522c35f09f277a484729752f0f5fa299b9e4b14fbca0e", "afrixnli_5"),
    ("d54929f3cfcae8ee7f1f0171414cb81ec19b4243ea6474d8155956beb18327d3", "agieval"),
    ("679f4a5a831647afec370dac707cfd065ca225079427e78232458f4bbe8d02b8", "alghafa"),
    ("fd570dcffc004b617a83a50ac2f2804709e5a31ff810ded108fd2f04ae449651", "arabic_boolean"),
    ("c703900f5a6f700cd19d2773c3bc8b16420848d6a502fbbb2d8bd1157dafc55d", "arabic_mmlu"),
    ("928f11eec23acc717775f156d8a308cc26dd623f54e91eb6bda3da09ca9e3281", "arc_multilingual"),
    ("55c93da7005300ce496a18bce8251febab8acd36b8c4d8875679ff432c2031f9", "arithmetic"),
    ("ffe5920d8ee35daa9271be669629b928a76ac82ede88bdb21683c56785efa474", "bigbench"),
    ("4ff455d4899e2ab9e755e35cda767c6dd70bc9554f673496b52233c134b60d6c", "eus_exams"),
    ("47597e2fd7dfb2734b5b709dd66c81547d108e32262bada950536c60f84a0c44", "f1_scores"),
    ("d0ebb65512d9f552ee9f17478ea3cba40d3c31fc785248ef4a6525fdf18d73be", "f1_scores"),
    ("9776c2ffc09ae0569d2cea41856f7a9c712a38362c8ea33ac61239005062df0f", "global_mmlu"),
    ("b4012dd2b1a508885d23ee2ddb12bc26f3e622081ba41ec1ab766edc31a4982b", "global_mmlu_full"),
    ("07d23b60b28f2a4f658dcf8440623a63fe6644854ce9b846a114dde980dc1214", "hellaswag"),
    ("280dbae55143a4d1be55783551e7d508b01a0d840066e5d5f3b9b6ae40966477", "include_base"),
    ("f28cc8d405c54ca83e339e3c6deebad195688d8788dbaf511a00c8ebee7f16f5", "mmlusr"),
    ("49aaaf0034ee7413385b68533fa22f5d664dc4c97f814985c353156f6ad6a85d", "openai_mmmlu"),
    ("975344e671c75aa5fe79948a68c04eb6eed4f261cf3d4d6eed55789c3870e1ec", "paloma"),
    ("9a41d04f937b941f8fe68aa2853c293c0d324d3419dd81bf7dcebe8df24e482c", "paws_x"),
    ("15778ab69ca3b96c3d82618500ad59702ff7ea9dbf09e90e4505abc16ac53ad0", "race"),
    ("a3b885e9735f861776ca5bbee5f06d95ecad98cf11df1cf4bbe7fd457afffdbc", "tmlu"),
    ("9907be363638a9b63b59829354de626d6d1310caff80ecfbf400fcb08973ac1f", "tmmluplus"),
    ("53748c0c6a434a352efacb3604b3d0c15e7853344b17cd92abc2e158b664d11e", "truthfulqa_multilingual"),
    ("d3c827d1e2cd442a1e4738b527a18effd48cbb2aed478c12a652311b5ea4dbc8", "truthfulqa"),
    ("025e3766f2b05a69ac7467b2114596a8adda4d66585f1ed5dec47ab0b6f067a3", "uncheatable_eval"),
    ("a44020374b172159bf5be80a64d2c4194c9d5c77284f696ac666361338c8da7d", "wikitext"),
    ("450d16d5f62da431f3695a0b1df2d8efbe660e06d67d69c0cd579029484370a1", "winogender"),
    ("e55327629264a98f1d383fda24645b6779afb53fa0bce2150042b9416b1ae006", "winogrande"),
    ("ec32f0bfecb45d80220279522ac046ef2ac3f7890444798b56ac29348b27355d", "winogrande"),
    ("191d31bbbfc66be7b66cbc410053e13631201a3700df749f23c653fb7834dd43", "xcopa"),
];

/// A known function: the file's name here, and the function's in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known<'a> {
    pub(crate) module: &'static str,
    pub(crate) name: &'a str,
}

impl<'a> Known<'a> {
    pub(crate) fn find(function: &'a Function) -> Option<Self> {
        if let Some(own) = function.name.strip_prefix(OWN).and_then(|rest| rest.strip_prefix('.')) {
            let with = |(_, module): &(&str, &'static str)| {
                let name = match own.strip_prefix(module)? {
                    "" => "process_docs",
                    rest => rest.strip_prefix('_')?,
                };
                Some(Known { module, name })
            };
            // `arc_multilingual` is no function of a module `arc`.
            return MODULES.iter().filter_map(with).max_by_key(|known| known.module.len());
        }
        let (module, name) = function.name.rsplit_once('.')?;
        let file = function.folder.join(module.replace('.', "/")).with_extension("py");
        let hash = neutral_store::sha256_file(&file).ok()?;
        let (_, module) = MODULES.iter().find(|(sha256, _)| *sha256 == hash)?;
        Some(Self { module, name })
    }
}

/// A function of a task file over the values of a metric.
pub(crate) fn aggregation(function: &Function) -> Option<Aggregation> {
    let known = Known::find(function)?;
    match (known.module, known.name) {
        ("f1_scores", "macro_f1_score") => Some(Aggregation::F1Macro),
        ("f1_scores", "micro_f1_score") => Some(Aggregation::F1Micro),
        (
            "f1_scores" | "afrixnli_1" | "afrixnli_2" | "afrixnli_3" | "afrixnli_5",
            "weighted_f1_score",
        ) => Some(Aggregation::F1Weighted),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hashes_are_those_of_the_harness_files() {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/tasks/functions.json");
        let theirs: Vec<(String, String)> =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let mut ours: Vec<_> =
            MODULES.iter().map(|(a, b)| ((*b).to_owned(), (*a).to_owned())).collect();
        ours.sort();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn a_function_of_our_own_is_found_by_the_longest_name() {
        let find = |name: &str| {
            let function = Function { name: name.to_owned(), folder: "nowhere".into() };
            Known::find(&function).map(|known| (known.module, known.name.to_owned()))
        };
        let known = |module, name: &str| Some((module, name.to_owned()));
        assert_eq!(find("neutral_tasks.hellaswag"), known("hellaswag", "process_docs"));
        assert_eq!(find("neutral_tasks.xcopa_doc_to_text_it"), known("xcopa", "doc_to_text_it"));
        let anatomy = known("global_mmlu_full", "process_anatomy");
        assert_eq!(find("neutral_tasks.global_mmlu_full_process_anatomy"), anatomy);
        assert_eq!(find("neutral_tasks.other"), None);
        assert_eq!(find("utils.process_docs"), None);
    }
}
