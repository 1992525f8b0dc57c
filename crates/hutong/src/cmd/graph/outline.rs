//! The graph as a text: department by department, stream by stream, below each what is granted of it.

use super::flow::{Capture, Flow, Grant, Stream};
use crate::cmd::pace::{Level, Pace};
use crate::cmd::table;
use crate::lang::Lang;

/// Returns the text, one line a stream or grant.
pub(super) fn text(flow: &Flow, lang: Lang) -> String {
    let mut text = summary(flow, lang);
    text.push('\n');
    if let Some(why) = &flow.silent {
        text.push_str(&format!("{}: {why}\n", lang.pick("no rates", "没有实时速率")));
    }
    let mut owner = "";
    for stream in &flow.streams {
        if stream.owner != owner {
            owner = &stream.owner;
            text.push_str(&format!("\n{} ({owner})\n", flow.department(owner)));
        }
        text.push_str(&format!("  {}\n", of_stream(flow, stream, lang)));
        let row = |grant| of_grant(flow, stream.columns, grant, lang);
        let rows: Vec<Vec<String>> = stream.grants.iter().map(row).collect();
        for (line, grant) in table::lines(&rows).iter().zip(&stream.grants) {
            text.push_str(&format!("    -> {line}\n"));
            if let Some(why) = trouble(grant.pace.as_ref(), lang) {
                text.push_str(&format!("         {why}\n"));
            }
        }
        if stream.grants.is_empty() {
            text.push_str(lang.pick("    nobody is granted it\n", "    无人获授权\n"));
        }
    }
    text
}

/// Returns how much there is, and whether it is live.
pub(super) fn summary(flow: &Flow, lang: Lang) -> String {
    let (streams, grants) = (flow.streams.len(), flow.grants().count());
    let (departments, stores) = (flow.departments.len(), flow.stores.len());
    let rate: f64 = flow.grants().filter_map(|grant| grant.pace.as_ref()).map(|pace| pace.rate).sum();
    let many = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let live = match (flow.live, lang) {
        (true, Lang::En) => format!("{} changes applied a second", table::thousands(rate.round() as u64)),
        (true, Lang::Zh) => format!("每秒写入 {} 条变更", table::thousands(rate.round() as u64)),
        (false, Lang::En) => "as configured, for no process answers".into(),
        (false, Lang::Zh) => "仅按配置绘制：没有进程应答".into(),
    };
    let counts = match lang {
        Lang::En => [
            many(departments, "department"),
            many(streams, "stream"),
            many(grants, "subscription"),
            many(stores, "store"),
        ]
        .join(", "),
        Lang::Zh => format!("{departments} 个部门，{streams} 个数据流，{grants} 个订阅，{stores} 个库"),
    };
    format!("{counts} · {live} · {}", flow.at)
}

fn of_stream(flow: &Flow, stream: &Stream, lang: Lang) -> String {
    let from = match &stream.capture {
        Some(Capture { store, table, pace, elsewhere, .. }) => {
            let system = flow.system(store);
            format!(
                "{store} [{system}] {table} => {}  {}",
                stream.name,
                paced(pace.as_ref(), *elsewhere, lang)
            )
        }
        None => format!("{} => {}", fed_elsewhere(lang), stream.name),
    };
    let title = if stream.title == stream.name { "" } else { &stream.title };
    format!("{from}  {title}").trim_end().to_owned()
}

/// Returns what is said of a stream that no capture of this configuration feeds.
pub(super) fn fed_elsewhere(lang: Lang) -> &'static str {
    lang.pick("fed elsewhere", "由别处捕获")
}

fn of_grant(flow: &Flow, columns: usize, grant: &Grant, lang: Lang) -> Vec<String> {
    vec![
        flow.department(&grant.department).to_owned(),
        grant.subscription.clone(),
        terms(grant, columns, lang),
        format!("{} {}", place(grant, lang), grant.into),
        paced(grant.pace.as_ref(), grant.elsewhere, lang),
    ]
}

/// Returns the store that a grant is written into, or the word for a topic.
pub(super) fn place(grant: &Grant, lang: Lang) -> &str {
    grant.store.as_deref().unwrap_or(lang.pick("topic", "主题"))
}

/// Returns what is granted, in a few words: `6 of 23 columns · 1 masked · some rows · until 2099-12-31`.
pub(super) fn terms(grant: &Grant, columns: usize, lang: Lang) -> String {
    let (granted, masked) = (grant.columns.len(), grant.masks.len());
    let mut terms =
        vec![lang.pick(format!("{granted}/{columns} columns"), format!("{granted}/{columns} 列"))];
    if masked > 0 {
        terms.push(lang.pick(format!("{masked} masked"), format!("脱敏 {masked}")));
    }
    if grant.rows.is_some() {
        terms.push(lang.pick("some rows", "部分行").into());
    }
    if let Some(until) = &grant.until {
        terms.push(lang.pick(format!("to {until}"), format!("至 {until}")));
    }
    terms.join(" · ")
}

/// Returns the word of a pipeline; of one that nobody answers for, why there is none.
pub(super) fn word(pace: Option<&Pace>, elsewhere: bool, lang: Lang) -> &'static str {
    match pace {
        Some(pace) => pace.word.name(lang),
        None if elsewhere => lang.pick("elsewhere", "在别处"),
        None => lang.pick("not run", "未运行"),
    }
}

fn paced(pace: Option<&Pace>, elsewhere: bool, lang: Lang) -> String {
    let word = word(pace, elsewhere, lang);
    match pace {
        Some(pace) => {
            let (rate, lag) = (pace.per_second(), table::seconds(pace.lag_seconds));
            lang.pick(format!("{word}  {rate}/s  lag {lag}"), format!("{word}  {rate}/秒  延迟 {lag}"))
        }
        None => word.to_owned(),
    }
}

/// Returns why a pipeline is not well.
pub(super) fn trouble(pace: Option<&Pace>, lang: Lang) -> Option<&str> {
    let pace = pace.filter(|pace| matches!(pace.word.level(), Level::Watch | Level::Bad))?;
    Some(pace.why(lang))
}
