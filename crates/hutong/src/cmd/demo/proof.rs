//! The proof at the end: what each replica should hold, computed by SQL over the register alone.
//!
//! Deliberately uses nothing of Hutong's filters, masks or grants: it would repeat their mistakes.

use std::path::Path;

use hutong_core::Result;
use hutong_stores::sqlite::Plain;

use super::register::MISTYPED;

/// One replica and the query over the register (`main`) that says what it should hold.
pub(super) struct Claim {
    /// The subscription.
    pub(super) name: &'static str,
    /// The store's file name.
    pub(super) file: &'static str,
    /// The replica's table and its columns.
    table: &'static str,
    columns: &'static str,
    /// The select list and condition over the register.
    wanted: &'static str,
}

/// The replicas of the demonstration.
pub(super) const CLAIMS: [Claim; 3] = [
    Claim {
        name: "renshe_population",
        file: "renshe.db",
        table: "population",
        columns: "gmsfhm, xm, csrq, rkzt, swrq, lxdh",
        wanted: "SELECT gmsfhm, xm, csrq, rkzt, swrq, substr(lxdh,1,3)||'****'||substr(lxdh,8)
                 FROM main.population_base WHERE rkzt <> '注销'",
    },
    Claim {
        name: "weijian_contacts",
        file: "weijian.db",
        table: "contacts",
        columns: "gmsfhm, xm, jzdz",
        wanted: "SELECT gmsfhm, substr(xm,1,1)||'*', substr(jzdz,1,instr(jzdz,'无名路')-1)
                 FROM main.population_base WHERE true",
    },
    Claim {
        name: "weijian_births",
        file: "weijian.db",
        table: "births",
        columns: "gmsfhm, csrq, xbdm, hjdz_xzqh",
        wanted: "SELECT gmsfhm, csrq, xbdm, hjdz_xzqh FROM main.population_base WHERE csrq >= '2026-01-01'",
    },
];

/// What the comparison of one replica found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Rows that the replica holds.
    pub(super) rows: u64,
    /// Rows that it should hold and does not.
    pub(super) missing: u64,
    /// Rows that it holds and should not.
    pub(super) surplus: u64,
}

impl Finding {
    /// States whether the replica holds exactly what it should.
    pub(super) fn equal(&self) -> bool {
        self.missing == 0 && self.surplus == 0
    }
}

/// Compares a replica with what it should hold.
pub(super) fn compare(folder: &Path, claim: &Claim) -> Result<Finding> {
    let register = Plain::open(&folder.join("gongan.db"))?;
    register.attach(&folder.join(claim.file), "replica")?;
    let held = format!("SELECT {} FROM replica.{}", claim.columns, claim.table);
    // The mistyped number waits in the quarantine, so no replica may hold it.
    let wanted = format!("{} AND gmsfhm <> '{MISTYPED}'", claim.wanted);
    let count = |query: &str| -> Result<u64> {
        let rows = register.rows(&format!("SELECT count(*) FROM ({query})"))?;
        Ok(rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok()).unwrap_or(0))
    };
    Ok(Finding {
        rows: count(&held)?,
        missing: count(&format!("{wanted} EXCEPT {held}"))?,
        surplus: count(&format!("{held} EXCEPT {wanted}"))?,
    })
}
