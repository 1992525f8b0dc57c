//! Hutong's own tables in a store: where lanes stand, what is quarantined, what was received.
//!
//! Knows the schema `hutong`; nothing of the department's tables.

use hutong_core::Result;
use tokio_postgres::Client;

use crate::postgres::error;

const TABLES: &str = r#"
CREATE TABLE IF NOT EXISTS hutong.hutong_lane (
    lane text PRIMARY KEY,
    "position" jsonb NOT NULL,
    epoch bigint NOT NULL,
    "grant" text NOT NULL,
    backend integer NOT NULL,
    table_name text NOT NULL,
    ledger_head text,
    changed timestamptz NOT NULL DEFAULT now());
COMMENT ON TABLE hutong.hutong_lane IS 'where each lane stands; written in the transaction of its rows';
CREATE TABLE IF NOT EXISTS hutong.hutong_quarantine (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane text NOT NULL,
    stream text NOT NULL,
    rule text NOT NULL,
    reason text NOT NULL,
    "position" text COLLATE "C" NOT NULL,
    key text,
    change json,
    record json,
    first_seen timestamptz NOT NULL DEFAULT now(),
    state text NOT NULL DEFAULT 'waiting',
    settled timestamptz);
COMMENT ON TABLE hutong.hutong_quarantine IS 'changes that could not go on, with the reason';
CREATE INDEX IF NOT EXISTS hutong_quarantine_waiting ON hutong.hutong_quarantine (lane, key) WHERE state = 'waiting';
CREATE TABLE IF NOT EXISTS hutong.hutong_row (
    table_name text NOT NULL,
    key jsonb NOT NULL,
    lane text NOT NULL,
    "offset" bigint,
    PRIMARY KEY (table_name, key));
COMMENT ON TABLE hutong.hutong_row IS 'which lane wrote which row of a department''s own tables';
CREATE TABLE IF NOT EXISTS hutong.hutong_receipt (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane text NOT NULL,
    "from" jsonb NOT NULL,
    "to" jsonb NOT NULL,
    "grant" text NOT NULL,
    changes bigint NOT NULL,
    written bigint NOT NULL,
    deleted bigint NOT NULL,
    quarantined bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp());
ALTER TABLE hutong.hutong_receipt ADD COLUMN IF NOT EXISTS sequence bigint, ADD COLUMN IF NOT EXISTS proof text;
CREATE INDEX IF NOT EXISTS hutong_receipt_sequence ON hutong.hutong_receipt (lane, sequence) WHERE sequence IS NOT NULL;
COMMENT ON TABLE hutong.hutong_receipt IS 'one line a commit: what was received, under which grant';
"#;

/// Creates Hutong's own tables where they are missing. Idempotent; lanes that do it at once wait for each other.
pub(super) async fn create(client: &mut Client) -> Result<()> {
    let failed = |e| error::of(e, || "create Hutong's tables in the store".into());
    // The last column that the tables were given.
    let there = "SELECT count(*) > 0 FROM pg_attribute WHERE attrelid = to_regclass('hutong.hutong_receipt')
                    AND attname = 'proof' AND NOT attisdropped";
    // Asked first, since IF NOT EXISTS wants the privilege to create also where nothing is to be created.
    if client.query_one(there, &[]).await.map_err(failed)?.get(0) {
        return Ok(());
    }
    let tx = client.transaction().await.map_err(failed)?;
    tx.batch_execute("SELECT pg_advisory_xact_lock(hashtextextended('hutong', 0))").await.map_err(failed)?;
    // A person may have made the schema for an owner that may not make any.
    let schema = "SELECT to_regnamespace('hutong') IS NOT NULL";
    if !tx.query_one(schema, &[]).await.map_err(failed)?.get::<_, bool>(0) {
        tx.batch_execute("CREATE SCHEMA IF NOT EXISTS hutong").await.map_err(failed)?;
    }
    tx.batch_execute(TABLES).await.map_err(failed)?;
    tx.commit().await.map_err(failed)
}
