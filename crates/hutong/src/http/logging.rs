//! What is logged, asked and changed over HTTP.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hutong_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

use crate::logging;

/// What is logged now.
#[derive(Debug, Serialize, Deserialize)]
pub struct Now {
    /// The filter.
    pub filter: String,
}

/// Why nothing was changed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// The error.
    pub error: String,
    /// What to do.
    pub hint: Option<String>,
}

/// `GET /log`: by which filter it is logged.
pub(super) async fn show() -> Response {
    match logging::filter() {
        Some(filter) => Json(Now { filter }).into_response(),
        None => refusal(&Error::new(ErrorKind::Broken, "tell what is logged", "nobody has begun to log")),
    }
}

/// `PUT /log`: logs by the filter in the body from now on.
pub(super) async fn set(body: String) -> Response {
    match logging::change(&body) {
        Ok(changed) => Json(changed).into_response(),
        Err(problem) => refusal(&problem),
    }
}

fn refusal(problem: &Error) -> Response {
    let code = match problem.kind {
        ErrorKind::Config => StatusCode::BAD_REQUEST,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, Json(Refusal { error: problem.why(), hint: problem.hint.clone() })).into_response()
}
