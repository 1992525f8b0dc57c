//! One table of a report, for people, for programs and for other people's tables.

use serde_json::{Map, Value as Json};

/// A table: names and cells.
#[derive(Debug, Clone)]
pub(super) struct Sheet {
    pub(super) name: &'static str,
    pub(super) head: &'static [&'static str],
    pub(super) rows: Vec<Vec<Json>>,
}

impl Sheet {
    pub(super) fn new(name: &'static str, head: &'static [&'static str]) -> Self {
        Self { name, head, rows: Vec::new() }
    }

    /// Returns its lines for a terminal, the head first.
    pub(super) fn text(&self) -> Vec<Vec<String>> {
        let head = self.head.iter().map(|name| name.to_uppercase().replace('_', " ")).collect();
        let cell = |cell: &Json| if cell.is_null() { "-".into() } else { plain(cell) };
        let rows = self.rows.iter().map(|row| row.iter().map(cell).collect());
        std::iter::once(head).chain(rows).collect()
    }

    /// Returns one object a row.
    pub(super) fn json(&self) -> Json {
        let object = |row: &Vec<Json>| {
            let cells = self.head.iter().zip(row).map(|(name, cell)| ((*name).to_owned(), cell.clone()));
            Json::Object(cells.collect::<Map<_, _>>())
        };
        self.rows.iter().map(object).collect()
    }

    /// Returns it as comma-separated values (RFC 4180).
    pub(super) fn csv(&self) -> String {
        let head = self.head.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>().join(",");
        let row = |row: &Vec<Json>| row.iter().map(|cell| quoted(&plain(cell))).collect::<Vec<_>>().join(",");
        let lines = std::iter::once(head).chain(self.rows.iter().map(row));
        lines.map(|line| line + "\r\n").collect()
    }
}

fn plain(cell: &Json) -> String {
    match cell {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        Json::Bool(truth) => if *truth { "yes" } else { "no" }.into(),
        Json::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        Json::Object(items) => {
            items.iter().map(|(name, item)| format!("{name}={}", plain(item))).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    // What a department has written must not become a formula in somebody's table.
    let formula = text.starts_with(['=', '+', '-', '@', '\t']) && text.parse::<f64>().is_err();
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cell_is_the_same_text_in_every_form_and_no_formula() {
        let mut sheet = Sheet::new("t", &["a", "in_time"]);
        sheet.rows.push(vec![json!("x,\"y\"\n"), json!(true)]);
        sheet.rows.push(vec![json!("=1+1"), Json::Null]);
        sheet.rows.push(vec![json!(-7), json!(["id", "name"])]);
        sheet.rows.push(vec![json!({}), json!({"id": "id", "phone": "phone"})]);
        assert_eq!(
            sheet.csv(),
            "a,in_time\r\n\"x,\"\"y\"\"\n\",yes\r\n'=1+1,\r\n-7,id name\r\n,id=id phone=phone\r\n"
        );
        assert_eq!(sheet.text()[0], ["A", "IN TIME"]);
        assert_eq!(sheet.text()[2], ["=1+1", "-"]);
        assert_eq!(sheet.json()[0]["in_time"], true);
    }
}
