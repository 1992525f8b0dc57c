//! What stands on the screen, as lines of a given width: pure, so that every size can be tried without a terminal.

use super::keys::{Chosen, Order};
use super::rows::{Look, Row};
use crate::cmd::pace::Level;
use crate::cmd::table;
use crate::lang::Lang;

/// How a piece of a line looks. No tone says what no word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Strong,
    Faint,
    /// The row that is told of below.
    Chosen,
    Level(Level),
}

/// A line: its pieces, which together are never wider than the screen.
pub(super) type Line = Vec<(Tone, String)>;

/// A column: its head, how wide it is, whether its cells end at the right, and the order that it shows.
struct Column {
    head: String,
    wide: usize,
    right: bool,
    order: Option<Order>,
    cell: fn(&Row, Lang) -> String,
}

/// Returns a whole screen of `wide` by `tall`, and moves what is chosen into sight.
pub(super) fn screen(
    look: &Look,
    chosen: &mut Chosen,
    (wide, tall): (usize, usize),
    lang: Lang,
) -> Vec<Line> {
    let mut lines = head(look, wide, lang);
    let rows = chosen.sorted(if chosen.by_lane { &look.lanes } else { &look.pipelines });
    let columns = columns(wide, chosen.by_lane, lang);
    lines.push(heads(&columns, chosen, wide));
    // Two lines tell of the chosen row, one of the keys.
    let room = tall.saturating_sub(lines.len() + 3);
    let at = chosen.settled(&rows, room);
    for (i, row) in rows.iter().enumerate().skip(chosen.first).take(room) {
        lines.push(line(row, &columns, i == at, wide, lang));
    }
    if rows.is_empty() {
        let none = lang.pick("this process runs no lane", "此进程没有运行任何通道");
        lines.push(vec![(Tone::Plain, table::fitted(none, wide))]);
    }
    lines.resize(lines.len().max(tall.saturating_sub(3)), Vec::new());
    lines.extend(told(rows.get(at).copied(), wide, lang));
    let more = rows.len().saturating_sub(chosen.first + room);
    lines.push(keys(wide, more, lang));
    lines.resize(tall, Vec::new());
    lines
}

/// Returns the screen as plain text, with every pipeline and all that is to be said of those that are not well.
pub(super) fn page(look: &Look, wide: usize, lang: Lang) -> Vec<String> {
    let mut lines = head(look, wide, lang);
    let chosen = Chosen::default();
    let columns = columns(wide, false, lang);
    lines.push(heads(&columns, &chosen, wide));
    let rows = chosen.sorted(&look.pipelines);
    lines.extend(rows.iter().map(|row| line(row, &columns, false, wide, lang)));
    let mut page: Vec<String> = lines.iter().map(plain).collect();
    for row in rows.iter().filter(|row| row.pace.word.level() != Level::Well) {
        page.push(String::new());
        page.extend(said(row, lang));
    }
    page
}

fn plain(line: &Line) -> String {
    line.iter().map(|(_, text)| text.as_str()).collect::<String>().trim_end().to_owned()
}

/// Returns what stands above the rows: how much there is, how it goes, and what does not answer.
fn head(look: &Look, wide: usize, lang: Lang) -> Vec<Line> {
    let title = lang.pick(format!("hutong {}", look.version), format!("互通 {}", look.version));
    let lanes = look.lanes.len();
    let mut first: Line = vec![(Tone::Strong, title), (Tone::Plain, "  ".into())];
    first.push((Tone::Plain, lang.pick(format!("{lanes} lanes:"), format!("{lanes} 条通道："))));
    for (word, count) in look.words() {
        first.push((Tone::Level(word.level()), format!(" {count} {}", word.name(lang))));
    }
    let rate = |capture: bool| -> f64 {
        let of = |row: &&Row| row.pace.name.starts_with("capture.") == capture;
        look.pipelines.iter().filter(of).map(|row| row.pace.rate).sum()
    };
    let (captured, applied) = (rate(true).round() as u64, rate(false).round() as u64);
    let (captured, applied) = (table::thousands(captured), table::thousands(applied));
    let flow = lang.pick(
        format!("captured {captured}/s, applied {applied}/s"),
        format!("捕获 {captured}/秒，写入 {applied}/秒"),
    );
    let mut second: Line = vec![(Tone::Plain, flow), (Tone::Plain, "  ".into())];
    let dead: Vec<&str> =
        look.parts.iter().filter(|p| p.answers == Some(false)).map(|part| part.name.as_str()).collect();
    second.push(match (&look.silent, dead.is_empty()) {
        (Some(why), _) => {
            let why = lang.pick(format!("no answer: {why}"), format!("无应答：{why}"));
            (Tone::Level(Level::Bad), why)
        }
        (None, false) => {
            let dead = dead.join(", ");
            let why = lang.pick(format!("does not answer: {dead}"), format!("没有应答：{dead}"));
            (Tone::Level(Level::Bad), why)
        }
        (None, true) if look.parts.iter().all(|part| part.answers == Some(true)) => {
            let count = look.parts.len();
            let well = lang.pick(
                format!("the bus and {} stores answer", count.saturating_sub(1)),
                format!("总线和 {} 个库均有应答", count.saturating_sub(1)),
            );
            (Tone::Level(Level::Well), well)
        }
        (None, true) => (Tone::Faint, lang.pick("not everything is asked yet", "尚未全部问过").into()),
    });
    vec![ended(cut(first, wide), &look.at, wide), cut(second, wide), Vec::new()]
}

/// Puts a text at the end of a line, where there is room for it.
fn ended(mut line: Line, text: &str, wide: usize) -> Line {
    let taken: usize = line.iter().map(|(_, text)| table::width(text)).sum();
    let needed = table::width(text);
    if taken + needed + 2 <= wide {
        line.push((Tone::Faint, table::right(text, wide - taken)));
    }
    line
}

/// Cuts a line where the screen ends.
fn cut(line: Line, wide: usize) -> Line {
    let mut left = wide;
    let mut kept = Vec::with_capacity(line.len());
    for (tone, text) in line {
        let room = table::width(&text).min(left);
        left -= room;
        kept.push((tone, table::fitted(&text, room)));
    }
    kept
}

/// Returns the columns that a screen has room for; the name takes what the others leave.
fn columns(wide: usize, by_lane: bool, lang: Lang) -> Vec<Column> {
    let column =
        |head: &str, wide, right, order, cell| Column { head: head.into(), wide, right, order, cell };
    let word = |row: &Row, lang: Lang| row.pace.word.name(lang).to_owned();
    let name = if by_lane { lang.pick("lane", "通道") } else { lang.pick("pipeline", "管道") };
    let mut columns = vec![
        column(lang.pick("state", "状态"), 8, false, Some(Order::Trouble), word as fn(&Row, Lang) -> String),
        column(name, 0, false, Some(Order::Name), |row, _| row.pace.name.clone()),
    ];
    if wide >= 110 {
        columns.push(column(lang.pick("stream", "数据流"), 20, false, None, |row, _| row.stream.clone()));
    }
    if wide >= 130 {
        columns.push(column(lang.pick("department", "部门"), 24, false, None, |row, _| {
            row.department.clone()
        }));
    }
    if wide >= 92 && !by_lane {
        columns
            .push(column(lang.pick("lanes", "通道"), 5, true, None, |row, _| row.pace.lanes.to_string()));
    }
    let rate = |row: &Row, _: Lang| row.pace.per_second();
    let lag = |row: &Row, _: Lang| table::seconds(row.pace.lag_seconds);
    let behind = |row: &Row, _: Lang| row.pace.behind();
    let aside = |row: &Row, _: Lang| table::thousands(row.pace.quarantined);
    columns.push(column(lang.pick("per s", "每秒"), 7, true, Some(Order::Rate), rate));
    columns.push(column(lang.pick("lag", "延迟"), 7, true, Some(Order::Lag), lag));
    columns.push(column(lang.pick("behind", "落后"), 9, true, Some(Order::Behind), behind));
    let quarantined = lang.pick("aside", "隔离");
    columns.push(column(quarantined, 6, true, Some(Order::Quarantined), aside));
    if wide >= 100 {
        let applied = |row: &Row, _: Lang| table::thousands(row.pace.committed);
        columns.push(column(lang.pick("applied", "已写入"), 11, true, None, applied));
    }
    let taken: usize = columns.iter().map(|column| column.wide + 1).sum();
    columns[1].wide = wide.saturating_sub(taken).max(8);
    columns
}

fn heads(columns: &[Column], chosen: &Chosen, wide: usize) -> Line {
    let heads = columns.iter().map(|column| {
        let by = column.order == Some(chosen.order);
        let mark = match (by, chosen.reversed) {
            (true, false) => "▼",
            (true, true) => "▲",
            (false, _) => "",
        };
        (if by { Tone::Strong } else { Tone::Faint }, cell(&format!("{}{mark}", column.head), column))
    });
    cut(heads.collect(), wide)
}

fn cell(text: &str, column: &Column) -> String {
    let text = if column.right { table::right(text, column.wide) } else { table::fitted(text, column.wide) };
    text + " "
}

fn line(row: &Row, columns: &[Column], chosen: bool, wide: usize, lang: Lang) -> Line {
    let cells = columns.iter().enumerate().map(|(at, column)| {
        let tone = match (at, chosen) {
            (0, _) => Tone::Level(row.pace.word.level()),
            (_, true) => Tone::Chosen,
            _ => Tone::Plain,
        };
        (tone, cell(&(column.cell)(row, lang), column))
    });
    cut(cells.collect(), wide)
}

/// Returns two lines about a row: why it is as it is, and what to do.
fn told(row: Option<&Row>, wide: usize, lang: Lang) -> Vec<Line> {
    let mut said = row.map(|row| said(row, lang)).unwrap_or_default();
    said.resize(2, String::new());
    let level = row.map_or(Level::Well, |row| row.pace.word.level());
    let tone = if level == Level::Well { Tone::Plain } else { Tone::Level(level) };
    said.into_iter().map(|text| cut(vec![(tone, text)], wide)).collect()
}

/// Returns why a row is as it is, and what to do where there is something.
fn said(row: &Row, lang: Lang) -> Vec<String> {
    let pace = &row.pace;
    let why = pace.why(lang);
    let (is, because) = lang.pick((" is ", ": "), ("：", "，"));
    let mut said = vec![format!("{}{is}{}{because}{why}", pace.name, pace.word.name(lang))];
    let halted = pace.kind.as_ref().filter(|_| pace.word.level() == Level::Bad);
    let more = halted.map(|kind| format!("hutong explain {kind}"));
    let hint = [pace.hint.clone(), more].into_iter().flatten().collect::<Vec<_>>().join(" · ");
    if !hint.is_empty() {
        said.push(format!("{}{hint}", lang.pick("what to do: ", "处理办法：")));
    }
    said
}

fn keys(wide: usize, more: usize, lang: Lang) -> Line {
    let keys = lang.pick(
        "q quit  ↑↓ choose  ←→ order by  r reverse  l lanes",
        "q 退出  ↑↓ 选择  ←→ 排序  r 倒序  l 按通道",
    );
    let line = cut(vec![(Tone::Faint, keys.to_owned())], wide);
    if more == 0 {
        return line;
    }
    ended(line, &lang.pick(format!("{more} more below"), format!("下面还有 {more} 行")), wide)
}

#[cfg(test)]
mod tests {
    use hutong_engine::PartStatus;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;
    use crate::cmd::pace::{Pace, Word};

    fn row(name: &str, department: &str, word: Word) -> Row {
        let pace = Pace {
            name: name.into(),
            lanes: 4,
            word,
            reason: "7 changes wait, and none has passed in 60 s".into(),
            reason_zh: String::new(),
            error: (word == Word::Halted).then(|| "failed to read the secret\u{1b}[2J".into()),
            hint: (word == Word::Halted).then(|| "give the privilege".into()),
            kind: (word == Word::Halted).then(|| "denied".into()),
            rate: 1_234.5,
            committed: 98_765_432,
            lag_seconds: 75.0,
            lag_changes: Some(1_204),
            lag_bytes: None,
            quarantined: 3,
        };
        Row { stream: "population_base".into(), department: department.into(), pace }
    }

    fn look() -> Look {
        let rows: Vec<Row> = (0..40)
            .map(|n| row(&format!("replicate.renshe_population_{n:02}"), "市人力资源和社会保障局", Word::Ok))
            .chain([
                row("replicate.weijian", "卫健委", Word::Halted),
                row("capture.gongan", "公安局", Word::Slow),
            ])
            .collect();
        let part = |name: &str, answers| PartStatus {
            name: name.into(),
            answers: Some(answers),
            since_us: 0,
            error: None,
            hint: None,
        };
        Look {
            at: "2026-11-27 08:00:00 +08:00".into(),
            version: "0.1.0".into(),
            silent: None,
            pipelines: rows.clone(),
            lanes: rows,
            parts: vec![part("bus", true), part("store weijian", false)],
            zone: TimeZone::UTC,
        }
    }

    #[test]
    fn an_ordinary_terminal_shows_what_is_not_well_first_and_why() {
        let lines: Vec<String> =
            screen(&look(), &mut Chosen::default(), (80, 24), Lang::En).iter().map(plain).collect();
        assert_eq!(lines.len(), 24);
        assert_eq!(
            lines[0],
            "hutong 0.1.0  42 lanes: 1 halted 1 slow 40 ok         2026-11-27 08:00:00 +08:00"
        );
        assert_eq!(lines[1], "captured 1 235/s, applied 50 615/s  does not answer: store weijian");
        assert!(lines[4].starts_with("halted   replicate.weijian "), "{lines:#?}");
        assert!(lines[5].starts_with("slow     capture.gongan "), "{lines:#?}");
        assert!(lines[5].ends_with("1 235    75 s     1 204      3"), "{lines:#?}");
        assert_eq!(
            lines[21], "replicate.weijian is halted: failed to read the secret [2J",
            "and no terminal obeys it"
        );
        assert_eq!(lines[22], "what to do: give the privilege · hutong explain denied");
        assert_eq!(
            lines[23],
            "q quit  ↑↓ choose  ←→ order by  r reverse  l lanes                 25 more below"
        );
    }

    #[test]
    fn a_page_tells_of_each_that_is_not_well_and_a_silent_process_is_said() {
        let mut look = look();
        look.silent = Some("failed to ask http://127.0.0.1:9464/status: refused".into());
        let page = page(&look, 140, Lang::Zh);
        assert!(page[0].starts_with("互通 0.1.0  42 条通道： 1 已停止 1 越落越远 40 正常"), "{page:#?}");
        assert!(page[1].contains("无应答：failed to ask"), "{page:#?}");
        assert!(page.iter().any(|line| line.contains("卫健委")), "{page:#?}");
        assert!(
            page.contains(&"处理办法：give the privilege · hutong explain denied".to_owned()),
            "{page:#?}"
        );
        assert_eq!(page.iter().filter(|line| line.contains("replicate.renshe")).count(), 40, "all of them");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_and_no_screen_taller_than_the_terminal(wide in 1..200_usize, tall in 1..60_usize, by_lane: bool, zh: bool, moves in -50..50_isize) {
            let lang = if zh { Lang::Zh } else { Lang::En };
            let mut chosen = Chosen { by_lane, moves, ..Chosen::default() };
            let lines = screen(&look(), &mut chosen, (wide, tall), lang);
            prop_assert_eq!(lines.len(), tall);
            for line in &lines {
                let text: String = line.iter().map(|(_, text)| text.as_str()).collect();
                prop_assert!(table::width(&text) <= wide, "{text:?} at {wide}");
                prop_assert_eq!(text.find(char::is_control), None);
            }
        }
    }
}
