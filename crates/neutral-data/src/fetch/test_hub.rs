//! A hub on this machine, for tests.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A hub that has some answers by path, and counts the questions.
pub(super) struct Hub {
    pub(super) endpoint: String,
    pub(super) asked: Arc<AtomicUsize>,
}

pub(super) fn hub(pages: &[(&str, &str)]) -> Hub {
    let pages: Vec<_> =
        pages.iter().map(|(path, body)| ((*path).to_owned(), (*body).to_owned())).collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut stream = stream.unwrap();
            let head: Vec<String> = BufReader::new(stream.try_clone().unwrap())
                .lines()
                .map(Result::unwrap)
                .take_while(|l| !l.is_empty())
                .collect();
            let path = head[0].split(' ').nth(1).unwrap();
            let page = pages.iter().find(|(known, _)| known == path);
            let whole = page.map_or("", |(_, body)| body.as_str());
            let first = head.iter().any(|l| l.ends_with("bytes=0-0"));
            let body = if first { &whole[..whole.len().min(1)] } else { whole };
            let status = if page.is_some() { "206 Partial Content" } else { "404 Not Found" };
            let head = format!(
                "HTTP/1.1 {status}\r\nETag: \"e\"\r\nX-Repo-Commit: c0\r\nContent-Range: bytes 0-{}/{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len(),
                whole.len(),
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body.as_bytes()).unwrap();
        }
    });
    Hub { endpoint, asked }
}

/// What the hub says of a revision.
pub(super) fn listing(sha: &str, files: &[&str]) -> String {
    let files: Vec<_> = files.iter().map(|f| format!(r#"{{"rfilename": "{f}"}}"#)).collect();
    format!(r#"{{"sha": "{sha}", "siblings": [{}]}}"#, files.join(", "))
}
