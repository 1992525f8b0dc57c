//! The graph as a picture: SVG 1.1 that stands alone, without scripts, fonts or anything from elsewhere.
//!
//! Each stream is a band: the table it comes from, the stream, and one row a grant with its own curve to it. So no curve
//! ever crosses another, and six hundred grants are read as easily as three. Bands stand below each other, owner by
//! owner, in as many columns as keep the picture near the shape of a screen. Colours say nothing that a word does not.

use std::fmt::Write as _;

use super::flow::{Capture, Flow, Grant, Stream};
use super::letters::{escaped, fitted, wide};
use super::outline;
use crate::cmd::pace::{Level, Pace};
use crate::cmd::table;
use crate::lang::Lang;

/// Sizes in pixels: margins, cards, rows.
const MARGIN: u32 = 28;
const HEAD: u32 = 118;
const TABLE: u32 = 196;
const ARROW: u32 = 44;
const STREAM: u32 = 226;
const FAN: u32 = 76;
const ROW: u32 = 26;
/// A row that says below why it is not well.
const TALL: u32 = 43;
const CARD: u32 = 66;
const GAP: u32 = 20;
const OWNER: u32 = 34;
const BETWEEN: u32 = 44;

/// Where the cells of a row begin, from the row's left, and how much room each has.
const WORD: (u32, u32) = (8, 74);
const WHO: (u32, u32) = (92, 176);
const NAME: (u32, u32) = (276, 160);
const TERMS: (u32, u32) = (444, 292);
const INTO: (u32, u32) = (744, 184);
/// Numbers end here.
const RATE: u32 = 996;
const LAG: u32 = 1068;
const GRANT: u32 = 1080;

const BAND: u32 = TABLE + ARROW + STREAM + FAN + GRANT;

/// Ink and ground of a level.
fn colours(level: Option<Level>) -> (&'static str, &'static str) {
    match level {
        Some(Level::Well) => ("#1a7f37", "#e3f3e6"),
        Some(Level::Still) => ("#4a5a6a", "#e6ebf0"),
        Some(Level::Watch) => ("#8a5a00", "#fff0c7"),
        Some(Level::Bad) => ("#b42318", "#fde4e1"),
        None => ("#6e7781", "#f0f2f4"),
    }
}

const STYLE: &str = "text{font-family:'Noto Sans SC','Noto Sans CJK SC','Source Han Sans SC','PingFang SC','Microsoft YaHei','WenQuanYi Micro Hei',system-ui,sans-serif;font-size:12px;fill:#1f2328}.t{font-size:20px;font-weight:700}.o{font-size:15px;font-weight:700}.b{font-weight:700}.g{fill:#59636e}.s{font-size:11px;fill:#59636e}.n{text-anchor:end}.w{font-size:11px;font-weight:700;text-anchor:middle}";

/// Returns the picture.
pub(super) fn svg(flow: &Flow, lang: Lang) -> String {
    let heights: Vec<u32> = flow.streams.iter().map(band_height).collect();
    let columns = columns(flow, &heights);
    let wide = MARGIN * 2 + columns.len() as u32 * BAND + (columns.len() as u32 - 1) * BETWEEN;
    let tallest = columns.iter().map(|column| column_height(flow, &heights, column)).max().unwrap_or(0);
    let tall = HEAD + tallest + MARGIN;
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\" \
         width=\"{wide}\" height=\"{tall}\" viewBox=\"0 0 {wide} {tall}\" role=\"img\">\n"
    );
    let title = lang.pick("Hutong: what flows where", "互通：数据流向");
    let _ = writeln!(out, "<title>{title}</title>\n<desc>{}</desc>", escaped(&outline::summary(flow, lang)));
    let _ =
        writeln!(out, "<style>{STYLE}</style>\n<rect width=\"{wide}\" height=\"{tall}\" fill=\"#ffffff\"/>");
    let mut canvas = Canvas { out, flow, lang };
    canvas.head(title, wide);
    let mut left = MARGIN;
    for column in columns {
        canvas.column(left, &heights, &column);
        left += BAND + BETWEEN;
    }
    canvas.out.push_str("</svg>\n");
    canvas.out
}

fn row_height(grant: &Grant) -> u32 {
    if outline::trouble(grant.pace.as_ref(), Lang::En).is_some() { TALL } else { ROW }
}

fn band_height(stream: &Stream) -> u32 {
    let rows: u32 = stream.grants.iter().map(row_height).sum();
    rows.max(CARD)
}

/// The streams of a column: from, and up to but without.
type Column = std::ops::Range<usize>;

fn column_height(flow: &Flow, heights: &[u32], column: &Column) -> u32 {
    let owners = column.clone().filter(|at| *at == column.start || begins_owner(flow, *at)).count() as u32;
    owners * OWNER + column.clone().map(|at| heights[at] + GAP).sum::<u32>()
}

fn begins_owner(flow: &Flow, at: usize) -> bool {
    at == 0 || flow.streams[at - 1].owner != flow.streams[at].owner
}

/// Returns the columns: as many as bring the picture nearest to three by two.
fn columns(flow: &Flow, heights: &[u32]) -> Vec<Column> {
    let whole = column_height(flow, heights, &(0..heights.len()));
    let split = |count: u32| {
        let (mut columns, mut start): (Vec<Column>, usize) = (Vec::new(), 0);
        for at in 1..=heights.len() {
            let enough = column_height(flow, heights, &(start..at)) >= whole.div_ceil(count);
            if at == heights.len() || enough {
                columns.push(start..at);
                start = at;
            }
        }
        columns
    };
    let shape = |columns: &[Column]| {
        let tall = columns.iter().map(|column| column_height(flow, heights, column)).max().unwrap_or(0);
        let ratio = f64::from(columns.len() as u32 * BAND) / f64::from((tall + HEAD).max(1));
        (ratio / 1.5).ln().abs()
    };
    let tried = (1..=8).map(split).filter(|columns| !columns.is_empty());
    tried.min_by(|a, b| shape(a).total_cmp(&shape(b))).unwrap_or_else(|| std::iter::once(0..0).collect())
}

/// The picture as far as it is drawn.
struct Canvas<'a> {
    out: String,
    flow: &'a Flow,
    lang: Lang,
}

impl Canvas<'_> {
    fn text(&mut self, (x, y): (u32, u32), class: &str, text: &str) {
        let _ = writeln!(self.out, "<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{}</text>", escaped(text));
    }

    fn coloured(&mut self, (x, y): (u32, u32), class: &str, ink: &str, text: &str) {
        let text = escaped(text);
        let _ = writeln!(
            self.out,
            "<text x=\"{x}\" y=\"{y}\" class=\"{class}\" style=\"fill:{ink}\">{text}</text>"
        );
    }

    fn card(&mut self, (x, y): (u32, u32), (wide, tall): (u32, u32), ground: &str, edge: &str, dashed: bool) {
        let dashes = if dashed { " stroke-dasharray=\"5 4\"" } else { "" };
        let _ = writeln!(
            self.out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{tall}\" rx=\"7\" fill=\"{ground}\" \
             stroke=\"{edge}\"{dashes}/>"
        );
    }

    /// Leads the eye along a row.
    fn stripe(&mut self, (x, y): (u32, u32), tall: u32) {
        let _ = writeln!(
            self.out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{GRANT}\" height=\"{tall}\" rx=\"5\" fill=\"#f6f8fa\"/>"
        );
    }

    /// A word in its colour.
    fn word(&mut self, (x, y): (u32, u32), room: u32, word: &str, level: Option<Level>) {
        let (ink, ground) = colours(level);
        let _ = writeln!(
            self.out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{room}\" height=\"18\" rx=\"9\" fill=\"{ground}\" stroke=\"{ink}\" \
             stroke-width=\"0.8\"/>"
        );
        self.coloured((x + room / 2, y + 13), "w", ink, &fitted(word, room - 6, 12));
    }

    /// A curve from one place to another, as thick as much flows.
    fn curve(&mut self, from: (u32, u32), to: (u32, u32), pace: Option<&Pace>) {
        let (ink, _) = colours(pace.map(|pace| pace.word.level()));
        let thick = 1.3 + pace.map_or(0.0, |pace| (1.0 + pace.rate.max(0.0)).log10() * 1.2).min(5.0);
        let moves = pace.is_some_and(|pace| matches!(pace.word.level(), Level::Well | Level::Watch));
        let dashes = if moves { "" } else { " stroke-dasharray=\"5 4\"" };
        let middle = u32::midpoint(from.0, to.0);
        let _ = writeln!(
            self.out,
            "<path d=\"M{} {}C{middle} {} {middle} {} {} {}\" fill=\"none\" stroke=\"{ink}\" \
             stroke-width=\"{thick:.1}\" opacity=\"0.75\"{dashes}/>",
            from.0, from.1, from.1, to.1, to.0, to.1
        );
        let (x, y) = to;
        let _ = writeln!(self.out, "<path d=\"M{x} {y}l-7 -4v8z\" fill=\"{ink}\"/>");
    }

    fn head(&mut self, title: &str, wide_all: u32) {
        self.text((MARGIN, 38), "t", title);
        let summary = outline::summary(self.flow, self.lang);
        self.text((MARGIN, 61), "g", &fitted(&summary, wide_all - 2 * MARGIN, 12));
        let lang = self.lang;
        let legend = [
            (Some(Level::Well), lang.pick("well", "正常")),
            (Some(Level::Still), lang.pick("wanted so", "人为")),
            (Some(Level::Watch), lang.pick("watch it", "需留意")),
            (Some(Level::Bad), lang.pick("act", "需处理")),
            (None, lang.pick("not known", "未知")),
        ];
        let mut x = MARGIN;
        for (level, word) in legend {
            let room = wide(word, 12) + 20;
            self.word((x, 74), room, word, level);
            x += room + 8;
        }
        let thickness = lang.pick("a thicker curve: more changes a second", "线越粗，每秒变更越多");
        self.text((x + 8, 87), "s", thickness);
    }

    fn column(&mut self, left: u32, heights: &[u32], column: &Column) {
        let row = left + BAND - GRANT;
        let lang = self.lang;
        let heads = [
            (left, lang.pick("store and table", "来源库与表")),
            (left + TABLE + ARROW, lang.pick("stream", "数据流")),
            (row + WORD.0, lang.pick("state", "状态")),
            (row + WHO.0, lang.pick("department", "部门")),
            (row + NAME.0, lang.pick("subscription", "订阅")),
            (row + TERMS.0, lang.pick("granted", "授权内容")),
            (row + INTO.0, lang.pick("into store and table", "写入库与表")),
        ];
        for (x, head) in heads {
            self.text((x, HEAD - 2), "s", head);
        }
        self.text((row + RATE, HEAD - 2), "s n", lang.pick("per second", "每秒"));
        self.text((row + LAG, HEAD - 2), "s n", lang.pick("lag", "延迟"));
        let mut top = HEAD;
        let flow = self.flow;
        for at in column.clone() {
            let stream = &flow.streams[at];
            if at == column.start || begins_owner(flow, at) {
                let owner = format!("{}  {}", flow.department(&stream.owner), stream.owner);
                self.text((left, top + 24), "o", &fitted(&owner, BAND, 16));
                let line = top + 30;
                let _ = writeln!(
                    self.out,
                    "<path d=\"M{left} {line}h{BAND}\" stroke=\"#d0d7de\" stroke-width=\"1\"/>"
                );
                top += OWNER;
            }
            self.band((left, top + GAP / 2), heights[at], stream);
            top += heights[at] + GAP;
        }
    }

    fn band(&mut self, (left, top): (u32, u32), tall: u32, stream: &Stream) {
        let middle = top + tall / 2;
        let card = middle - CARD / 2;
        self.out.push_str("<g>\n");
        self.source((left, card), stream.capture.as_ref());
        let pace = stream.capture.as_ref().and_then(|capture| capture.pace.as_ref());
        let at = left + TABLE + ARROW;
        self.curve((left + TABLE, middle), (at - 2, middle), pace);
        let (from, mut row) = ((at + STREAM, middle), top);
        for (n, grant) in stream.grants.iter().enumerate() {
            if n % 2 == 1 {
                self.stripe((at + STREAM + FAN, row), row_height(grant));
            }
            let y = row + ROW / 2;
            self.curve(from, (at + STREAM + FAN - 2, y), grant.pace.as_ref());
            self.grant((at + STREAM + FAN, row), stream.columns, grant);
            row += row_height(grant);
        }
        if stream.grants.is_empty() {
            let nobody = self.lang.pick("nobody is granted it", "无人获授权");
            self.text((at + STREAM + 16, middle + 4), "s", nobody);
        }
        self.stream((at, card), stream);
        self.out.push_str("</g>\n");
    }

    fn source(&mut self, (x, y): (u32, u32), capture: Option<&Capture>) {
        let room = TABLE - 20;
        let Some(capture) = capture else {
            self.card((x, y), (TABLE, CARD), "#ffffff", "#afb8c1", true);
            let elsewhere = outline::fed_elsewhere(self.lang);
            self.text((x + 10, y + CARD / 2 + 4), "g", elsewhere);
            return;
        };
        self.card((x, y), (TABLE, CARD), "#f6f8fa", "#afb8c1", false);
        let system = self.flow.system(&capture.store);
        self.text((x + 10, y + 19), "b", &fitted(&capture.store, room - wide(system, 12) - 8, 13));
        self.text((x + TABLE - 10, y + 19), "s n", system);
        self.text((x + 10, y + 36), "g", &fitted(&capture.table, room, 12));
        let (word, level) = self.said(capture.pace.as_ref(), capture.elsewhere);
        self.word((x + 8, y + 43), WORD.1, word, level);
        if let Some(pace) = &capture.pace {
            let rate = format!("{}{}", pace.per_second(), self.lang.pick("/s", "/秒"));
            self.text((x + 92, y + 56), "g", &rate);
            self.text((x + TABLE - 10, y + 56), "g n", &table::seconds(pace.lag_seconds));
        }
    }

    fn stream(&mut self, (x, y): (u32, u32), stream: &Stream) {
        self.card((x, y), (STREAM, CARD), "#eef4ff", "#5b8def", false);
        let room = STREAM - 20;
        self.text((x + 10, y + 19), "b", &fitted(&stream.title, room, 13));
        self.text((x + 10, y + 37), "g", &fitted(&stream.topic, room, 12));
        let lang = self.lang;
        let sharing = match stream.sharing {
            "unconditional" => lang.pick("unconditional", "无条件共享"),
            "conditional" => lang.pick("conditional", "有条件共享"),
            _ => lang.pick("not shared", "不予共享"),
        };
        let Stream { columns, partitions, .. } = stream;
        let shape = lang.pick(
            format!("{columns} columns · {partitions} partitions · {sharing}"),
            format!("{columns} 列 · {partitions} 分区 · {sharing}"),
        );
        self.text((x + 10, y + 55), "s", &fitted(&shape, room, 11));
    }

    fn grant(&mut self, (x, y): (u32, u32), columns: usize, grant: &Grant) {
        let line = y + 17;
        let (word, level) = self.said(grant.pace.as_ref(), grant.elsewhere);
        self.out.push_str("<g>\n");
        let told = [&grant.purpose, &grant.legal_basis].into_iter().filter(|text| !text.is_empty());
        let mut told: Vec<&str> = told.map(String::as_str).collect();
        told.extend(grant.rows.as_deref());
        let _ = writeln!(self.out, "<title>{}</title>", escaped(&told.join(" · ")));
        self.word((x + WORD.0, y + 4), WORD.1, word, level);
        let flow = self.flow;
        self.text((x + WHO.0, line), "b", &fitted(flow.department(&grant.department), WHO.1, 13));
        self.text((x + NAME.0, line), "", &fitted(&grant.subscription, NAME.1, 12));
        self.text((x + TERMS.0, line), "g", &fitted(&outline::terms(grant, columns, self.lang), TERMS.1, 12));
        let silent =
            flow.stores.iter().any(|s| Some(&s.name) == grant.store.as_ref() && s.answers == Some(false));
        let mut into = format!("{} · {}", outline::place(grant, self.lang), grant.into);
        if silent {
            into = format!("{}: {into}", self.lang.pick("no answer", "无应答"));
        }
        let ink = if silent { colours(Some(Level::Bad)).0 } else { "#1f2328" };
        self.coloured((x + INTO.0, line), "", ink, &fitted(&into, INTO.1, 12));
        if let Some(pace) = &grant.pace {
            self.text((x + RATE, line), "n", &pace.per_second());
            self.text((x + LAG, line), "n", &table::seconds(pace.lag_seconds));
        }
        if let Some(why) = outline::trouble(grant.pace.as_ref(), self.lang) {
            let ink = colours(level).0;
            self.coloured((x + WHO.0, line + 16), "s", ink, &fitted(why, LAG - WHO.0, 11));
        }
        self.out.push_str("</g>\n");
    }

    fn said(&self, pace: Option<&Pace>, elsewhere: bool) -> (&'static str, Option<Level>) {
        (outline::word(pace, elsewhere, self.lang), pace.map(|pace| pace.word.level()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::flow::{Department, Store};
    use super::*;
    use crate::cmd::pace::Word;

    fn pace(word: Word, rate: f64) -> Pace {
        Pace {
            name: "replicate.a".into(),
            lanes: 1,
            word,
            reason: "7 changes wait".into(),
            reason_zh: String::new(),
            error: None,
            hint: None,
            kind: None,
            rate,
            committed: 0,
            lag_seconds: 3.0,
            lag_changes: None,
            lag_bytes: None,
            quarantined: 0,
        }
    }

    /// So many streams of six owners, so many grants each; every seventh is stalled.
    fn flow(streams: usize, grants: usize) -> Flow {
        let grant = |stream: usize, n: usize| Grant {
            subscription: format!("subscription_with_a_long_name_{stream}_{n}"),
            pipeline: format!("replicate.s{stream}_{n}"),
            department: format!("d{}", n % 12),
            purpose: "<script>alert(1)</script>".into(),
            legal_basis: "法 & 条".into(),
            until: Some("2027-12-31".into()),
            columns: vec!["id".into(), "xm".into()],
            masks: BTreeMap::from([("xm".into(), "name".into())]),
            rows: Some("id < 5".into()),
            store: Some("share".into()),
            into: "share.a_table_with_a_name_that_has_no_room".into(),
            pace: Some(pace(if n % 7 == 3 { Word::Stalled } else { Word::Ok }, 10.0 * n as f64)),
            elsewhere: false,
        };
        let stream = |at: usize| Stream {
            name: format!("s{at}"),
            title: "人口基础信息与户籍登记信息汇总".into(),
            owner: format!("d{}", at * 6 / streams.max(1)),
            topic: format!("d0.s{at}.v1"),
            partitions: 4,
            columns: 20,
            sharing: "conditional",
            capture: (at > 0).then(|| Capture {
                pipeline: "capture.a".into(),
                store: "office".into(),
                table: "public.entry".into(),
                pace: Some(pace(Word::Ok, 2.0)),
                elsewhere: false,
            }),
            grants: (0..grants).map(|n| grant(at, n)).collect(),
        };
        let department =
            |n: usize| Department { id: format!("d{n}"), name: "市人力资源和社会保障局".into() };
        let store =
            |name: &str| Store { name: name.into(), system: "postgres", answers: Some(name == "office") };
        Flow {
            at: "2026-11-27 08:00:00 +08:00".into(),
            live: true,
            silent: None,
            departments: (0..12).map(department).collect(),
            stores: vec![store("office"), store("share")],
            streams: (0..streams).map(stream).collect(),
        }
    }

    fn size(svg: &str) -> (f64, f64) {
        let of = |name: &str| -> f64 {
            let (_, rest) = svg.split_once(&format!(" {name}=\"")).unwrap();
            rest.split('"').next().unwrap().parse().unwrap()
        };
        (of("width"), of("height"))
    }

    #[test]
    fn thirty_streams_of_twenty_grants_have_a_row_each_and_the_shape_of_a_screen() {
        let svg = svg(&flow(30, 20), Lang::En);
        let (wide, tall) = size(&svg);
        assert!((0.9..2.5).contains(&(wide / tall)), "{wide} by {tall}");
        assert_eq!(svg.matches("subscription_with_a").count(), 600);
        // Rows that share a line stand in different columns of the picture: no text covers another.
        let mut rows: Vec<(&str, &str)> = Vec::new();
        for line in svg.lines().filter(|line| line.contains("subscription_with_a")) {
            let value =
                |name: &str| line.split_once(&format!(" {name}=\"")).unwrap().1.split('"').next().unwrap();
            rows.push((value("x"), value("y")));
        }
        let all = rows.len();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), all, "no two rows stand at one place");
        assert_eq!(svg.matches(">stalled<").count(), 90, "each colour has its word");
        assert_eq!(svg.matches("7 changes wait").count(), 90, "and its reason");
    }

    #[test]
    fn what_others_wrote_is_text_and_a_silent_store_is_said() {
        let svg = svg(&flow(2, 4), Lang::Zh);
        assert!(!svg.contains("<script") && svg.contains("&lt;script&gt;alert(1)"), "{svg}");
        assert!(svg.contains("法 &amp; 条") && svg.contains("无应答: share"), "{svg}");
        assert!(svg.contains("由别处捕获") && svg.contains("office"), "{svg}");
    }

    #[test]
    fn a_picture_of_nothing_is_a_picture() {
        for flow in [flow(0, 0), flow(1, 0)] {
            let (wide, tall) = size(&svg(&flow, Lang::En));
            assert!(wide > 500.0 && tall > 100.0);
        }
    }
}
