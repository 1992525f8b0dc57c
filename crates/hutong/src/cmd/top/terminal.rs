//! The terminal itself: taken over, drawn on, and given back as it was, however the program ends.

use std::io::{Stdout, Write, stdout};
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};
use hutong_core::{ErrorKind, Result, ResultExt};

use super::view::{Line, Tone};
use crate::cmd::pace::Level;
use crate::cmd::table;

/// Whether the terminal is taken. Whoever gives it back a second time would move its cursor over what stands there.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// A terminal that shows a screen of its own. Dropping it gives the terminal back.
pub(super) struct Terminal {
    out: Stdout,
}

impl Terminal {
    /// Takes the terminal over. A panic gives it back before it is told, so that it can be read.
    pub(super) fn open() -> Result<Self> {
        let doing = || "take the terminal over".to_owned();
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            usual(panic);
        }));
        TAKEN.store(true, Ordering::SeqCst);
        // From here on it is given back also where the rest fails.
        let mut terminal = Self { out: stdout() };
        enable_raw_mode().or_kind(ErrorKind::Unavailable, doing)?;
        execute!(terminal.out, EnterAlternateScreen, Hide).or_kind(ErrorKind::Unavailable, doing)?;
        Ok(terminal)
    }

    /// Returns how many columns and lines there are.
    pub(super) fn size(&self) -> Result<(usize, usize)> {
        let (wide, tall) = size().or_kind(ErrorKind::Unavailable, || "measure the terminal".into())?;
        Ok((usize::from(wide), usize::from(tall)))
    }

    /// Draws the lines in the place of what was there. No line is cleared before it is written, so nothing flickers.
    pub(super) fn draw(&mut self, lines: &[Line], wide: usize) -> Result<()> {
        self.drawn(lines, wide).or_kind(ErrorKind::Unavailable, || "draw on the terminal".into())
    }

    fn drawn(&mut self, lines: &[Line], wide: usize) -> std::io::Result<()> {
        queue!(self.out, BeginSynchronizedUpdate)?;
        for (at, line) in (0_u16..).zip(lines) {
            queue!(self.out, MoveTo(0, at))?;
            for (tone, text) in line {
                match tone {
                    Tone::Plain => {}
                    Tone::Strong => queue!(self.out, SetAttribute(Attribute::Bold))?,
                    Tone::Faint => queue!(self.out, SetForegroundColor(Color::DarkGrey))?,
                    Tone::Chosen => queue!(self.out, SetAttribute(Attribute::Reverse))?,
                    Tone::Level(level) => queue!(self.out, SetForegroundColor(colour(*level)))?,
                }
                queue!(self.out, Print(text), ResetColor, SetAttribute(Attribute::Reset))?;
            }
            // Behind a full line the cursor still stands on its last cell, which would be cleared.
            if line.iter().map(|(_, text)| table::width(text)).sum::<usize>() < wide {
                queue!(self.out, Clear(ClearType::UntilNewLine))?;
            }
        }
        queue!(self.out, EndSynchronizedUpdate)?;
        self.out.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn colour(level: Level) -> Color {
    match level {
        Level::Well => Color::Green,
        Level::Still => Color::Blue,
        Level::Watch => Color::Yellow,
        Level::Bad => Color::Red,
    }
}

/// Gives the terminal back: its own screen, its cursor, its keys.
fn give_back() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    // Nothing can be done about a terminal that has gone away.
    let _ = execute!(stdout(), EndSynchronizedUpdate, ResetColor, Show, LeaveAlternateScreen);
    let _ = disable_raw_mode();
}

#[cfg(all(test, unix))]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use serde_json::Value as Json;

    use super::*;

    /// Says to this very test, started a second time, that it is to panic on the terminal that it was given.
    const PANIC: &str = "HUTONG_TEST_PANICS_ON_A_TERMINAL";

    #[test]
    fn a_panic_gives_the_terminal_back_and_can_be_read() {
        if std::env::var_os(PANIC).is_some() {
            let mut terminal = Terminal::open().unwrap();
            terminal.draw(&[vec![(Tone::Strong, "a screen".to_owned())]], 100).unwrap();
            panic!("the screen is lost");
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let python = root.join("target/venv/bin/python");
        assert!(python.is_file(), "no Python in {}: run `make test`, which makes it", python.display());
        let this = std::env::current_exe().unwrap();
        let mut command = Command::new(python);
        command.arg(root.join("tests/python/terminal.py")).args(["100", "30"]);
        command.arg(r#"[["the screen is lost", ""]]"#).arg(this);
        command.args([
            "--exact",
            "--nocapture",
            "cmd::top::terminal::tests::a_panic_gives_the_terminal_back_and_can_be_read",
        ]);
        let output = command.env(PANIC, "1").output().unwrap();
        let told: Json = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        assert_eq!(told["missed"], serde_json::json!([]), "{told:#}");
        assert_eq!(told["code"], 101, "it panicked: {told:#}");
        let wanted =
            [("taken", true), ("modes_restored", true), ("alternate", false), ("cursor_hidden", false)];
        for (key, wanted) in wanted {
            assert_eq!(told[key], wanted, "{key}: {told:#}");
        }
        let last = told["last"].to_string();
        assert!(last.contains("the screen is lost"), "what the panic said still stands there: {told:#}");
    }
}
