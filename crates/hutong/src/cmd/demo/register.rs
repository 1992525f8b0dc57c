//! A small population register that keeps changing: births, moves, deaths, corrections, merged persons.
//!
//! Everybody in it is of province 99, which was never assigned: nobody in it can exist.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const FAMILY: [&str; 12] = ["张", "王", "李", "赵", "刘", "陈", "杨", "黄", "周", "吴", "徐", "孙"];
const GIVEN: [&str; 14] =
    ["伟", "芳", "娜", "敏", "静", "磊", "洋", "艳", "勇", "杰", "娟", "涛", "明轩", "子涵"];
const COUNTY: [(&str, &str); 3] =
    [("990101", "虚省样例市东湖区"), ("990102", "虚省样例市西山区"), ("990103", "虚省样例市南江县")];
/// The number that the register's clerk mistypes: its check character is wrong.
pub(super) const MISTYPED: &str = "990101199003070016";

/// The statement that makes the register's table. The last column stands in no contract, so it never leaves.
pub(super) const TABLE: &str = r"CREATE TABLE population_base (
  gmsfhm TEXT NOT NULL PRIMARY KEY, xm TEXT NOT NULL, cym TEXT, xbdm TEXT NOT NULL, mzdm TEXT NOT NULL,
  csrq TEXT NOT NULL, hjdz_xzqh TEXT NOT NULL, hjdz TEXT NOT NULL, jzdz_xzqh TEXT NOT NULL, jzdz TEXT NOT NULL,
  hh TEXT NOT NULL, yhzgx TEXT NOT NULL, hyzk TEXT NOT NULL, whcd TEXT NOT NULL, lxdh TEXT, zp_ref TEXT,
  pcs_dm TEXT NOT NULL, rkzt TEXT NOT NULL, swrq TEXT, gxsj TEXT NOT NULL,
  internal_note TEXT
) WITHOUT ROWID;";

/// What the register's clerks do. Every step is one SQL transaction.
pub(super) struct Register {
    random: StdRng,
    alive: Vec<String>,
    serial: u32,
    mistyped: bool,
}

impl Register {
    /// Makes the clerks; the same seed does the same.
    pub(super) fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), alive: Vec::new(), serial: 0, mistyped: false }
    }

    /// Returns the statements that fill the table with people.
    pub(super) fn fill(&mut self, count: usize) -> String {
        (0..count).map(|_| self.born(false)).collect()
    }

    /// Returns the statements of one transaction of the office.
    pub(super) fn step(&mut self) -> (&'static str, String) {
        if !self.mistyped && self.random.random_bool(0.05) {
            self.mistyped = true;
            return ("a number typed wrongly", self.person(MISTYPED.to_owned(), "1990-03-07", "1"));
        }
        match self.random.random_range(0..100) {
            0..25 => ("a birth", self.born(true)),
            25..55 => ("a move", self.moved()),
            55..65 => ("a death", self.died()),
            65..75 => ("a corrected name", self.renamed()),
            75..90 => ("a new phone", self.phoned()),
            90..95 => ("a cancelled registration", self.cancelled()),
            _ => ("a merged person", self.merged()),
        }
    }

    fn pick(&mut self) -> String {
        self.alive.choose(&mut self.random).cloned().unwrap_or_else(|| MISTYPED.to_owned())
    }

    /// Makes a number of GB 11643 that nobody else has.
    fn number(&mut self, birth: &str, man: bool) -> String {
        self.serial += 1;
        let order = (self.serial * 2 + u32::from(man)) % 1000;
        let division = 990_100 + self.serial / 500 % 900;
        let body = format!("{division:06}{}{order:03}", birth.replace('-', ""));
        let weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
        let sum: u32 =
            body.bytes().zip(weights).map(|(digit, weight)| u32::from(digit - b'0') * weight).sum();
        let check = char::from(b"10X98765432"[(sum % 11) as usize]);
        format!("{body}{check}")
    }

    fn born(&mut self, today: bool) -> String {
        let man = self.random.random_bool(0.5);
        let year = if today { 2026 } else { self.random.random_range(1940..2026) };
        let birth =
            format!("{year}-{:02}-{:02}", self.random.random_range(1..=12), self.random.random_range(1..=28));
        let number = self.number(&birth, man);
        self.alive.push(number.clone());
        self.person(number, &birth, if man { "1" } else { "2" })
    }

    fn person(&mut self, number: String, birth: &str, sex: &str) -> String {
        let (name, phone, (division, address)) = (self.name(), self.phone(), self.address());
        format!(
            "INSERT INTO population_base VALUES ('{number}','{name}',NULL,'{sex}','01','{birth}','{division}',\
             '{address}','{division}','{address}','{:09}','01','10','20','{phone}',NULL,'990101000001','正常',NULL,\
             strftime('%Y-%m-%dT%H:%M:%fZ','now'),'internal');\n",
            self.random.random_range(0..999_999_999u32)
        )
    }

    fn name(&mut self) -> String {
        let part =
            |list: &[&str], random: &mut StdRng| list.choose(random).map_or("", |name| name).to_owned();
        part(&FAMILY, &mut self.random) + &part(&GIVEN, &mut self.random)
    }

    fn phone(&mut self) -> String {
        format!("100{:08}", self.random.random_range(0..99_999_999u32))
    }

    fn address(&mut self) -> (&'static str, String) {
        let (division, county) = COUNTY[self.random.random_range(0..COUNTY.len())];
        (division, format!("{county}无名路{}号", self.random.random_range(1..999)))
    }

    fn set(&mut self, what: &str) -> String {
        let number = self.pick();
        format!(
            "UPDATE population_base SET {what}, gxsj=strftime('%Y-%m-%dT%H:%M:%fZ','now') WHERE gmsfhm='{number}';\n"
        )
    }

    fn moved(&mut self) -> String {
        let (division, address) = self.address();
        self.set(&format!("jzdz_xzqh='{division}', jzdz='{address}'"))
    }

    fn died(&mut self) -> String {
        self.set("rkzt='死亡', swrq=date('now')")
    }

    fn renamed(&mut self) -> String {
        let name = self.name();
        self.set(&format!("cym=xm, xm='{name}'"))
    }

    fn phoned(&mut self) -> String {
        let phone = self.phone();
        self.set(&format!("lxdh='{phone}'"))
    }

    fn cancelled(&mut self) -> String {
        self.set("rkzt='注销'")
    }

    /// One person had two numbers: one row goes, and the other gets a third, right number.
    fn merged(&mut self) -> String {
        let (gone, kept) = (self.pick(), self.pick());
        if gone == kept || gone == MISTYPED || kept == MISTYPED {
            return self.moved();
        }
        self.alive.retain(|number| *number != gone && *number != kept);
        let born = format!("{}-{}-{}", &kept[6..10], &kept[10..12], &kept[12..14]);
        let right = self.number(&born, kept.as_bytes()[16] % 2 == 1);
        self.alive.push(right.clone());
        format!(
            "DELETE FROM population_base WHERE gmsfhm='{gone}';\n\
             UPDATE population_base SET gmsfhm='{right}' WHERE gmsfhm='{kept}';\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_numbers_that_pass_their_check_and_belong_to_nobody() {
        let mut register = Register::new(7);
        register.fill(3_000);
        let mut seen = std::collections::BTreeSet::new();
        for number in &register.alive {
            assert!(
                number.starts_with("99") && number.len() == 18 && seen.insert(number.clone()),
                "{number}"
            );
        }
        // A number that the standard's example computes.
        let mut fixed = Register::new(0);
        fixed.serial = 0;
        assert!(fixed.number("1990-03-07", true).starts_with("99010019900307003"));
    }
}
