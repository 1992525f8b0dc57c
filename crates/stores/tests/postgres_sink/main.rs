//! The PostgreSQL sink over a real PostgreSQL.

mod equal;
mod fence;
mod given;
mod grant;
mod own_table;
mod refuse;
mod rows;
mod types;
