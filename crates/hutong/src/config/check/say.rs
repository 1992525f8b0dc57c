//! How the themes of a check ask for values and tell what is wrong with them.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use hutong_core::Secret;
use hutong_core::problem::nearest;
use toml::Spanned;

use super::Check;
use crate::config::document::{At, Entry};
use crate::config::explain;
use crate::config::file::{Number, Sourced, Text};
use crate::config::plan::SecretSource;
use crate::config::problem::{Level, Problem};

/// A table of the configuration that must have certain keys.
pub(super) struct Part<'a, T> {
    /// The entry that it is, or is in.
    pub(super) entry: &'a Entry<T>,
    /// Where it stands.
    pub(super) at: At,
    /// What it is called in a problem.
    pub(super) what: &'a str,
    /// The way to it from the entry; empty for the entry itself.
    pub(super) path: &'a [&'a str],
}

impl<'a, T> Part<'a, T> {
    /// Makes a part of a whole entry.
    pub(super) fn whole(entry: &'a Entry<T>, what: &'a str) -> Self {
        Self { entry, at: entry.at, what, path: &[] }
    }

    fn told(&self, key: &str) -> bool {
        let path: Vec<&str> = self.path.iter().copied().chain([key]).collect();
        self.entry.told(&path)
    }
}

impl Check<'_> {
    /// Tells something that nothing can run with.
    pub(super) fn error(&mut self, at: At, message: impl Into<String>, hint: Option<String>) {
        self.say(Level::Error, at, message.into(), hint);
    }

    /// Returns how many errors have been told.
    pub(super) fn errors(&self) -> usize {
        self.problems.iter().filter(|problem| problem.level == Level::Error).count()
    }

    /// Tells something that a person should look at.
    pub(super) fn warn(&mut self, at: At, message: impl Into<String>, hint: Option<String>) {
        self.say(Level::Warning, at, message.into(), hint);
    }

    fn say(&mut self, level: Level, at: At, message: String, hint: Option<String>) {
        let source = &self.document.files[at.file];
        let (line, column) = source.place(at.offset);
        let file = source.path.display().to_string();
        self.problems.push(Problem { file, line, column, level, message, hint });
    }

    /// Returns `file:line:column` of a place, to name it in another place's hint.
    pub(super) fn name_of(&self, at: At) -> String {
        let source = &self.document.files[at.file];
        let (line, column) = source.place(at.offset);
        format!("{}:{line}:{column}", source.path.display())
    }

    /// Returns a value that must be there; tells when it is not, unless that has been told.
    pub(super) fn required<'e, T, V>(
        &mut self,
        part: &Part<'_, T>,
        key: &str,
        value: Option<&'e Spanned<V>>,
    ) -> Option<&'e Spanned<V>> {
        if value.is_none() && !part.told(key) {
            self.error(part.at, format!("{} has no `{key}`", part.what), explain::example(key));
        }
        value
    }

    /// Returns a text that must be there and must not be blank.
    pub(super) fn text<'e, T>(
        &mut self,
        part: &Part<'_, T>,
        key: &str,
        value: Option<&'e Text>,
    ) -> Option<&'e str> {
        let text = self.required(part, key, value)?;
        if text.get_ref().trim().is_empty() {
            self.error(part.entry.at(text.span().start), format!("`{key}` is empty"), explain::example(key));
            return None;
        }
        Some(text.get_ref())
    }

    /// Returns a number within bounds, or what it is when nobody wrote it.
    pub(super) fn number<T>(
        &mut self,
        entry: &Entry<T>,
        key: &str,
        value: Option<&Number>,
        bounds: RangeInclusive<u32>,
        default: u32,
    ) -> u32 {
        let Some(value) = value else { return default };
        match u32::try_from(*value.get_ref()) {
            Ok(number) if bounds.contains(&number) => number,
            _ => {
                let (least, most) = (bounds.start(), bounds.end());
                let message =
                    format!("`{key}` is {}, which is not between {least} and {most}", value.get_ref());
                self.error(entry.at(value.span().start), message, None);
                default
            }
        }
    }

    /// States whether a name is known, and tells the nearest when it is not.
    pub(super) fn known<T>(
        &mut self,
        kind: &str,
        names: &BTreeMap<String, Entry<T>>,
        at: At,
        name: &str,
    ) -> bool {
        if names.contains_key(name) {
            return true;
        }
        // Where the whole table cannot be read, its names are not known, and that has been told.
        if self.document.lost.iter().any(|lost| lost == kind) {
            return false;
        }
        let hint = match nearest(name, names.keys().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add a table [{kind}.{name}], or name one that is there"),
        };
        self.error(at, format!("there is no {kind} `{name}`"), Some(hint));
        false
    }

    /// Returns where a secret is, which may not be written out.
    pub(super) fn secret<T>(
        &mut self,
        entry: &Entry<T>,
        key: &str,
        value: &Spanned<Sourced>,
    ) -> Option<SecretSource> {
        let at = entry.at(value.span().start);
        match value.get_ref() {
            Sourced::Text(_) => {
                self.error(
                    at,
                    format!("`{key}` is a secret and may not be written out"),
                    explain::example(key),
                );
                None
            }
            Sourced::Env(name) => self.filled(at, key, name).then(|| SecretSource::Env(name.clone())),
            Sourced::File(path) => {
                let folder = self.document.files[at.file].folder();
                self.filled(at, key, path).then(|| SecretSource::File(folder.join(path)))
            }
        }
    }

    /// Returns where an address is, which may be written out when it holds no password.
    pub(super) fn address<T>(
        &mut self,
        entry: &Entry<T>,
        key: &str,
        value: &Spanned<Sourced>,
    ) -> Option<SecretSource> {
        let Sourced::Text(text) = value.get_ref() else { return self.secret(entry, key, value) };
        let at = entry.at(value.span().start);
        if holds_password(text) {
            self.error(
                at,
                format!("`{key}` holds a password, which may not be written out"),
                explain::example(key),
            );
            return None;
        }
        self.filled(at, key, text).then(|| SecretSource::Text(Secret::new(text.clone())))
    }

    fn filled(&mut self, at: At, key: &str, text: &str) -> bool {
        let filled = !text.trim().is_empty();
        if !filled {
            self.error(at, format!("`{key}` is empty"), explain::example(key));
        }
        filled
    }
}

/// States whether an address holds a password: as `user:password@`, as a parameter, or as a keyword.
fn holds_password(address: &str) -> bool {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    // A password may hold an unescaped `/`, so the last `@` of the whole counts too.
    let user = authority.rsplit_once('@').or_else(|| rest.rsplit_once('@')).map_or("", |(user, _)| user);
    let lower = address.to_lowercase();
    user.contains(':') || lower.contains("password") || lower.contains("passwd")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_a_password_in_an_address() {
        let rows = [
            ("postgres://hutong:secret@db/gongan", true),
            ("postgres://hutong:se/cret@db/gongan", true),
            ("postgres://hutong@db:5432/gongan", false),
            ("postgres://db:5432/gongan", false),
            ("postgres://db/gongan?password=secret", true),
            ("host=db user=hutong password=secret", true),
            ("host=db user=hutong", false),
        ];
        for (address, holds) in rows {
            assert_eq!(holds_password(address), holds, "{address}");
        }
    }
}
