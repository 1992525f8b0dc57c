//! The two languages in which the program speaks to whoever carries the pager, and which of them a person wants.
//!
//! Both texts stand side by side where they are said, so that whoever changes one sees the other.

use clap::ValueEnum;

/// A language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Lang {
    /// English.
    #[default]
    En,
    /// Chinese, simplified.
    Zh,
}

impl Lang {
    /// Returns the language of a locale: the first of `LC_ALL`, `LC_MESSAGES` and `LANG` that is set and not empty
    /// decides (POSIX, "Internationalization Variables"); what is not Chinese is English.
    pub fn of_locale(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &&str| variable(name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_MESSAGES", "LANG"].iter().find_map(set).unwrap_or_default();
        // `zh`, `zh_CN.UTF-8`, `zh-Hans`; not `zha`, which is Zhuang.
        let language = locale.split(['_', '-', '.', '@']).next().unwrap_or_default();
        if language.eq_ignore_ascii_case("zh") { Self::Zh } else { Self::En }
    }

    /// Returns what is said in this language.
    pub fn pick<T>(self, en: T, zh: T) -> T {
        match self {
            Self::En => en,
            Self::Zh => zh,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_decides() {
        let rows: [(&[(&str, &str)], Lang); 8] = [
            (&[], Lang::En),
            (&[("LANG", "zh_CN.UTF-8")], Lang::Zh),
            (&[("LANG", "zh_CN.UTF-8"), ("LC_ALL", "C")], Lang::En),
            (&[("LANG", "zh_CN.UTF-8"), ("LC_ALL", "")], Lang::Zh),
            (&[("LANG", "en_US.UTF-8"), ("LC_MESSAGES", "zh-Hans")], Lang::Zh),
            (&[("LC_ALL", "ZH")], Lang::Zh),
            (&[("LANG", "zha_CN.UTF-8")], Lang::En),
            (&[("LC_CTYPE", "zh_CN.UTF-8")], Lang::En),
        ];
        for (variables, wanted) in rows {
            let variable =
                |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
            assert_eq!(Lang::of_locale(variable), wanted, "{variables:?}");
        }
    }
}
