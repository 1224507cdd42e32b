//! What is written from the catalogue: the tables of CONFIGURATION.md, and the JSON Schemas. A test fails where they are
//! not what the code says; `UPDATE=1 cargo test -p keyrail --lib config::` writes them anew.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use super::catalogue::{Catalogue, HOST, Kind, PIPELINE};
use super::{client, host_schema, pipeline_schema, tell};
use std::fs;
use std::path::Path;

/// The keys as a table.
fn keys(catalogue: &Catalogue) -> String {
    let mut page = "| key | meaning | default | accepted |\n|---|---|---|---|\n".to_owned();
    for key in catalogue.iter().filter(|key| key.kind != Kind::Section) {
        let meaning = match key.kind {
            Kind::Later(cure) => format!("not there yet, and refused: {cure}"),
            _ => key.meaning.to_owned(),
        };
        let row = ["", &format!("`{}`", key.path), &meaning, &tell::default(key), &tell::accepted(key), ""];
        let row = row.map(|cell| if cell.is_empty() { " ".to_owned() } else { format!(" {cell} ") });
        page += row.join("|").trim();
        page += "\n";
    }
    page
}

/// The properties that are refused as a table, those of one cure in one row.
fn owned() -> String {
    let mut page = "| property | instead |\n|---|---|\n".to_owned();
    let mut told: Vec<&str> = Vec::new();
    for (_, cure) in client::OWNED {
        if told.contains(&cure) {
            continue;
        }
        told.push(cure);
        let names = client::OWNED.iter().filter(|(_, of)| *of == cure).map(|(name, _)| format!("`{name}`"));
        page += &format!("| {} | {cure} |\n", names.collect::<Vec<_>>().join(", "));
    }
    page
}

/// The page with what stands between `<!-- NAME: ... -->` and `<!-- end of NAME -->` replaced.
fn put(page: &str, name: &str, text: &str) -> String {
    let (before, rest) = page.split_once(&format!("<!-- {name}: ")).unwrap_or_else(|| panic!("no mark {name}"));
    let (note, rest) = rest.split_once("-->\n").unwrap();
    let (_, after) = rest.split_once(&format!("<!-- end of {name} -->")).unwrap_or_else(|| panic!("no end of {name}"));
    format!("{before}<!-- {name}: {note}-->\n{text}<!-- end of {name} -->{after}")
}

#[test]
fn what_is_written_from_the_catalogue_is_what_the_code_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(folder.join("CONFIGURATION.md")).unwrap();
    let mut wanted = page;
    for (name, text) in [("host-keys", keys(HOST)), ("owned", owned()), ("pipeline-keys", keys(PIPELINE))] {
        wanted = put(&wanted, name, &text);
    }
    let files = [
        ("CONFIGURATION.md", wanted),
        ("schemas/keyrail.schema.json", host_schema()),
        ("schemas/pipeline.schema.json", pipeline_schema()),
    ];
    let mut old = Vec::new();
    for (name, wanted) in files {
        let path = folder.join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &wanted).unwrap();
        }
        if fs::read_to_string(&path).unwrap_or_default() != wanted {
            old.push(name);
        }
    }
    assert!(old.is_empty(), "{old:?} is not what the code says: UPDATE=1 cargo test -p keyrail --lib config::");
}
