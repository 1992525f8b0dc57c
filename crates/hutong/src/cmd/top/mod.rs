//! `hutong top`: how everything goes, on one screen of a terminal that renews itself.

mod keys;
mod rows;
mod terminal;
mod view;

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use crossterm::event::EventStream;
use futures_util::StreamExt as _;
use hutong_core::{ErrorKind, Result, ResultExt};
use hutong_engine::status::now_us;
use tokio::signal::unix::{SignalKind, signal};

use super::arguments::Output;
use super::{check, looking, status};
use crate::config::Plan;
use crate::exit::Exit;
use crate::lang::Lang;
use keys::{Chosen, Does};
use rows::Look;
use terminal::Terminal;

/// How wide a screen is taken to be that nobody measures, and that is read by a program.
const PIPE: usize = 160;

/// Shows a screen until `q`; where standard output is no terminal, or `--once`, prints one and ends.
pub(super) async fn run(config: &Path, options: &looking::Top, lang: Lang) -> Result<Exit> {
    let plan = check::load(config)?;
    if options.output == Output::Json {
        super::print_json(&Look::of(&plan, status::ask(&plan).await?, now_us()))?;
        return Ok(Exit::Done);
    }
    if options.once || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        let look = Look::of(&plan, status::ask(&plan).await?, now_us());
        view::page(&look, PIPE, lang).iter().for_each(|line| println!("{line}"));
        return Ok(Exit::Done);
    }
    watch(&plan, Duration::from_secs(options.every), lang).await
}

/// Renews the screen until a key or a signal ends it.
async fn watch(plan: &Plan, every: Duration, lang: Lang) -> Result<Exit> {
    let doing = || "watch the terminal".to_owned();
    let listen = |kind| signal(kind).or_kind(ErrorKind::Broken, doing);
    let (mut terminate, mut hangup) = (listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
    let mut interrupt = listen(SignalKind::interrupt())?;
    // The first answer comes before the screen: who cannot be asked at all is told so on an ordinary line.
    let mut look = Look::of(plan, status::ask(plan).await?, now_us());
    let mut chosen = Chosen::default();
    let mut terminal = Terminal::open()?;
    let mut events = EventStream::new();
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        let (wide, tall) = terminal.size()?;
        terminal.draw(&view::screen(&look, &mut chosen, (wide, tall), lang), wide)?;
        tokio::select! {
            _ = ticks.tick() => match status::ask(plan).await {
                Ok(status) => look = Look::of(plan, status, now_us()),
                // What was last known stays, beneath why nothing newer is.
                Err(error) => look.silent(&error, now_us()),
            },
            event = events.next() => match event {
                Some(Ok(event)) if chosen.turned(&event) == Does::End => break,
                Some(Ok(_)) => {}
                // The terminal has gone away.
                Some(Err(_)) | None => break,
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => break,
        }
    }
    drop(terminal);
    Ok(Exit::Done)
}
