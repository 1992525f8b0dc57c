//! What is wrong in a configuration, and how it is told: place, reason, hint.

use std::fmt;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing runs with it.
    Error,
    /// It runs, but a person should look.
    Warning,
}

/// One thing that is wrong in a configuration.
///
/// Ordered by place, so a sorted list reads like the files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, as the person named it.
    pub file: String,
    /// The line, from 1; 0 when the problem is the whole file's.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// How bad it is.
    pub level: Level,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        let level = match self.level {
            Level::Error => "",
            Level::Warning => "warning: ",
        };
        write!(f, ": {level}{}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// All problems of a configuration, in the order of the files, each told once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The problems.
    pub problems: Vec<Problem>,
    /// How many files were read.
    pub files: usize,
}

impl Report {
    /// Sorts the problems and removes doubles.
    pub fn new(mut problems: Vec<Problem>, files: usize) -> Self {
        problems.sort();
        problems.dedup();
        Self { problems, files }
    }

    /// States whether there is an error among them, so that nothing can run.
    pub fn stops(&self) -> bool {
        self.count(Level::Error) > 0
    }

    /// Returns how many problems there are of a level.
    pub fn count(&self, level: Level) -> usize {
        self.problems.iter().filter(|p| p.level == level).count()
    }
}

impl fmt::Display for Report {
    /// Prints the problems, one below the other, and how many there are; ends with a line break.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        let (errors, warnings) = (self.count(Level::Error), self.count(Level::Warning));
        let of = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        let found = match (errors, warnings) {
            (0, 0) => "no problems".to_owned(),
            (_, 0) => of(errors, "problem"),
            (0, _) => of(warnings, "warning"),
            _ => format!("{} and {}", of(errors, "problem"), of(warnings, "warning")),
        };
        writeln!(f, "{found} in {}", of(self.files, "file"))
    }
}
