//! Puts the words of the TOML and serde libraries into ours, without repeating values that may be secrets.

use hutong_core::problem::nearest;

/// Says what is wrong with a file that is not TOML.
pub(super) fn syntax(message: &str) -> String {
    format!("this is not TOML: {message}")
}

/// Says what is wrong with a key or a value, and what to write.
pub(super) fn wrong(message: &str, path: &[String]) -> (String, Option<String>) {
    for (start, word) in [("unknown field ", "key"), ("unknown variant ", "value")] {
        let Some(rest) = message.strip_prefix(start) else { continue };
        let mut names = rest.split('`').skip(1).step_by(2);
        let written = names.next().unwrap_or_default().to_owned();
        let known: Vec<&str> = names.collect();
        let hint = match nearest(&written, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known {word}s: {}", known.join(", ")),
        };
        return (format!("unknown {word} `{written}`"), Some(hint));
    }
    let key = path.last().map(|key| format!("`{key}`: ")).unwrap_or_default();
    if path.last().is_some_and(|key| key == "sharing") && message.starts_with("invalid type: ") {
        let hint =
            "\"unconditional\", { conditional = \"the condition\" } or { none = \"the law\" }".to_owned();
        return (format!("{key}this needs its reason in words"), Some(hint));
    }
    if let Some(rest) = message.strip_prefix("invalid type: ") {
        // The value itself may be a password in the wrong place.
        let (found, expected) = rest.rsplit_once(", expected ").unwrap_or((rest, "something else"));
        let (found, expected) = (kind(found), expected_words(expected));
        let hint = match path {
            [.., tables, name] if tables == "tables" && found == "a table" => {
                Some(format!("a name with a dot needs quotes: \"{name}.TABLE\""))
            }
            [.., name] => example(name),
            [] => None,
        };
        return (format!("{key}expected {expected}, found {found}"), hint);
    }
    if message.starts_with("invalid value: ") {
        let (_, expected) = message.rsplit_once(", expected ").unwrap_or(("", "another value"));
        return (format!("{key}expected {}", expected_words(expected)), None);
    }
    if message.starts_with("wanted string or table") {
        return (format!("{key}expected a string or a table"), None);
    }
    if message.starts_with("wanted exactly 1 element") {
        return (format!("{key}expected exactly one key in the table"), None);
    }
    (format!("{key}{message}"), None)
}

/// Returns how a key is written, in capitals what the person puts in.
pub(super) fn example(key: &str) -> Option<String> {
    let value = match key {
        "brokers" => "\"HOST:9092\"",
        "registry" => "\"http://HOST:8081\"",
        "owner" | "department" => "\"DEPARTMENT\"",
        "contract" => "\"schemas/STREAM.avsc\"",
        "from" | "store" => "\"STORE\"",
        "tables" => "{ \"SCHEMA.TABLE\" = \"STREAM\" }",
        "stream" => "\"STREAM\"",
        "table" => "\"SCHEMA.TABLE\"",
        "purpose" => "\"WHAT THE DATA IS FOR\"",
        "legal_basis" => "\"LAW AND ARTICLE\"",
        "until" => "2027-12-31, a date without quotes",
        "columns" | "clear" => "[\"COLUMN\", \"COLUMN\"]",
        "rows" => "\"A CONDITION IN SQL\"",
        "mask" => "{ COLUMN = \"MASK\" }",
        "into" => "{ store = \"STORE\", table = \"SCHEMA.TABLE\" } or { topic = true }",
        "principal" => "\"User:NAME\"",
        "path" => "\"FILE.db\"",
        "token_file" => "\"FILE\", whose content is the token; it never stands here",
        "open_metrics" => "true",
        "url" | "password" | "key" => "{ env = \"NAME\" } or { file = \"PATH\" }",
        "user" | "id" => "\"NAME\"",
        "governing_key" => "\"ed25519:…\", as `hutong ledger keygen FILE` prints it",
        "governing" => "\"DEPARTMENT\"",
        _ => return None,
    };
    Some(format!("{key} = {value}"))
}

/// Returns the kind of a value that serde describes as `string "…"` or `` integer `1` ``.
fn kind(found: &str) -> String {
    let word = found.split(['`', '"']).next().unwrap_or_default().trim();
    match word {
        "integer" => "an integer".into(),
        "sequence" => "a list".into(),
        "map" => "a table".into(),
        "unit variant" => "a string".into(),
        "newtype variant" => "a table".into(),
        other => format!("a {other}"),
    }
}

/// Returns what serde expected, in the words of the file.
fn expected_words(expected: &str) -> String {
    match expected {
        "i64" => "an integer".into(),
        "a sequence" => "a list".into(),
        "a map" => "a table".into(),
        "a TOML datetime" => "a date".into(),
        other if other.starts_with("struct ") => "a table".into(),
        other => other.into(),
    }
}
