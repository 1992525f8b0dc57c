//! What a person has chosen to see, and the keys that choose it.

use std::cmp::Ordering;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::rows::Row;

/// By what the rows are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Order {
    /// What is not well first, then what is furthest behind.
    #[default]
    Trouble,
    Name,
    Rate,
    Lag,
    Behind,
    Quarantined,
}

impl Order {
    const ALL: [Self; 6] =
        [Self::Trouble, Self::Name, Self::Rate, Self::Lag, Self::Behind, Self::Quarantined];

    fn step(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|order| *order == self).unwrap_or(0);
        Self::ALL[(at + by) % Self::ALL.len()]
    }

    fn of(self, a: &Row, b: &Row) -> Ordering {
        let (a, b) = (&a.pace, &b.pace);
        let lag = || b.lag_seconds.total_cmp(&a.lag_seconds);
        let by = match self {
            Self::Trouble => (b.word.level(), b.word).cmp(&(a.word.level(), a.word)).then_with(lag),
            Self::Name => Ordering::Equal,
            Self::Rate => b.rate.total_cmp(&a.rate),
            Self::Lag => lag(),
            Self::Behind => (b.lag_changes, b.lag_bytes).cmp(&(a.lag_changes, a.lag_bytes)),
            Self::Quarantined => b.quarantined.cmp(&a.quarantined),
        };
        by.then_with(|| a.name.cmp(&b.name))
    }
}

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// The screen is drawn again.
    Draw,
    /// The program ends.
    End,
}

/// What a person has chosen to see.
#[derive(Debug, Clone, Default)]
pub(super) struct Chosen {
    pub(super) order: Order,
    pub(super) reversed: bool,
    /// Whether each lane has a row of its own.
    pub(super) by_lane: bool,
    /// The row that is told of in full, by its name: it stays chosen where the order changes.
    pub(super) name: Option<String>,
    /// The first row that is on the screen.
    pub(super) first: usize,
    /// How far the choice moves at the next drawing, which knows the rows.
    pub(super) moves: isize,
}

/// More rows than a screen ever has.
const FAR: isize = 1 << 30;

impl Chosen {
    /// Returns what follows from an event of the terminal.
    pub(super) fn turned(&mut self, event: &Event) -> Does {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.key(key),
            _ => Does::Draw,
        }
    }

    fn key(&mut self, key: &KeyEvent) -> Does {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c' | 'd') => Does::End,
                _ => Does::Draw,
            };
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Does::End,
            KeyCode::Down | KeyCode::Char('j') => self.moves += 1,
            KeyCode::Up | KeyCode::Char('k') => self.moves -= 1,
            KeyCode::PageDown => self.moves += 10,
            KeyCode::PageUp => self.moves -= 10,
            KeyCode::Home => self.moves = -FAR,
            KeyCode::End => self.moves = FAR,
            KeyCode::Right | KeyCode::Char('s') => self.order = self.order.step(1),
            KeyCode::Left => self.order = self.order.step(Order::ALL.len() - 1),
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Char('l') => {
                self.by_lane = !self.by_lane;
                self.name = None;
            }
            _ => {}
        }
        Does::Draw
    }

    /// Puts rows into the chosen order.
    pub(super) fn sorted<'a>(&self, rows: &'a [Row]) -> Vec<&'a Row> {
        let mut rows: Vec<&Row> = rows.iter().collect();
        rows.sort_by(|a, b| self.order.of(a, b));
        if self.reversed {
            rows.reverse();
        }
        rows
    }

    /// Moves the choice, and the screen with it, and returns which of the rows is chosen; `room` of them are shown.
    pub(super) fn settled(&mut self, rows: &[&Row], room: usize) -> usize {
        let found = self.name.as_ref().and_then(|name| rows.iter().position(|row| row.pace.name == *name));
        let last = rows.len().saturating_sub(1);
        let at = found.unwrap_or(0).saturating_add_signed(self.moves).min(last);
        // Who has never moved looks at the first row, whichever that is.
        if found.is_some() || self.moves != 0 {
            self.name = rows.get(at).map(|row| row.pace.name.clone());
        }
        self.moves = 0;
        let room = room.max(1);
        self.first =
            self.first.min(at).max((at + 1).saturating_sub(room)).min(rows.len().saturating_sub(room));
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::pace::{Pace, Word};

    fn row(name: &str, word: Word, rate: f64, lag_seconds: f64) -> Row {
        let pace = Pace {
            name: name.into(),
            lanes: 1,
            word,
            reason: String::new(),
            reason_zh: String::new(),
            error: None,
            hint: None,
            kind: None,
            rate,
            committed: 0,
            lag_seconds,
            lag_changes: None,
            lag_bytes: None,
            quarantined: 0,
        };
        Row { stream: String::new(), department: String::new(), pace }
    }

    fn rows() -> Vec<Row> {
        vec![
            row("a", Word::Ok, 9.0, 0.0),
            row("b", Word::Halted, 0.0, 5.0),
            row("c", Word::Slow, 1.0, 60.0),
            row("d", Word::Ok, 3.0, 2.0),
        ]
    }

    fn press(chosen: &mut Chosen, code: KeyCode, modifiers: KeyModifiers) -> Does {
        chosen.turned(&Event::Key(KeyEvent::new(code, modifiers)))
    }

    fn names(chosen: &Chosen, rows: &[Row]) -> String {
        chosen.sorted(rows).iter().map(|row| row.pace.name.as_str()).collect()
    }

    #[test]
    fn what_is_not_well_stands_first_and_keys_choose_another_order() {
        let rows = rows();
        let mut chosen = Chosen::default();
        assert_eq!(names(&chosen, &rows), "bcda");
        for wanted in ["abcd", "adcb", "cbda", "abcd", "abcd", "bcda"] {
            assert_eq!(press(&mut chosen, KeyCode::Right, KeyModifiers::NONE), Does::Draw);
            assert_eq!(names(&chosen, &rows), wanted, "{:?}", chosen.order);
        }
        press(&mut chosen, KeyCode::Left, KeyModifiers::NONE);
        assert_eq!(chosen.order, Order::Quarantined);
        press(&mut chosen, KeyCode::Char('r'), KeyModifiers::NONE);
        assert_eq!(names(&chosen, &rows), "dcba");
    }

    #[test]
    fn every_way_to_end_ends_it() {
        let ends = [
            (KeyCode::Char('q'), KeyModifiers::NONE),
            (KeyCode::Esc, KeyModifiers::NONE),
            (KeyCode::Char('c'), KeyModifiers::CONTROL),
            (KeyCode::Char('d'), KeyModifiers::CONTROL),
        ];
        for (code, modifiers) in ends {
            assert_eq!(press(&mut Chosen::default(), code, modifiers), Does::End, "{code:?}");
        }
        assert_eq!(press(&mut Chosen::default(), KeyCode::Char('c'), KeyModifiers::NONE), Does::Draw);
    }

    #[test]
    fn the_choice_stays_with_its_row_and_on_the_screen() {
        let mut rows = rows();
        let mut chosen = Chosen::default();
        let at = |chosen: &mut Chosen, rows: &[Row], room| {
            let sorted = chosen.sorted(rows);
            let at = chosen.settled(&sorted, room);
            (sorted[at].pace.name.clone(), chosen.first)
        };
        assert_eq!(at(&mut chosen, &rows, 2), ("b".into(), 0));
        press(&mut chosen, KeyCode::Down, KeyModifiers::NONE);
        press(&mut chosen, KeyCode::Down, KeyModifiers::NONE);
        assert_eq!(at(&mut chosen, &rows, 2), ("d".into(), 1));
        rows[3] = row("d", Word::Halted, 3.0, 99.0);
        assert_eq!(at(&mut chosen, &rows, 2), ("d".into(), 0), "it has become the worst");
        press(&mut chosen, KeyCode::End, KeyModifiers::NONE);
        assert_eq!(at(&mut chosen, &rows, 2), ("a".into(), 2));
        press(&mut chosen, KeyCode::Home, KeyModifiers::NONE);
        assert_eq!(at(&mut chosen, &rows, 9), ("d".into(), 0));
        assert_eq!(chosen.settled(&[], 3), 0, "no rows");
    }
}
