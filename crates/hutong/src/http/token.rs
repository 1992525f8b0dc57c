//! The token of the HTTP interface: where it is read, who must show it, and what is said to who does not.
//!
//! Knows nothing of what is asked. I5: which department gets what is told to nobody who may not know it.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hutong_core::{Error, ErrorKind, Result, ResultExt, Secret};
use subtle::ConstantTimeEq;

use crate::config::plan::HttpPlan;

/// The fewest characters of a token: 128 bits in hexadecimal.
pub const SHORTEST: usize = 32;
/// The most bytes of its file.
const LONGEST_BYTES: u64 = 4096;

/// Reads the token that the configuration names; `None` when it names none.
///
/// `Err(Denied)` when its file cannot be read, may be read by others, or holds no token.
pub fn read(plan: &HttpPlan) -> Result<Option<Secret>> {
    plan.token_file.as_deref().map(of_file).transpose()
}

fn of_file(path: &Path) -> Result<Secret> {
    let doing = || format!("read the token of [http] from {}", path.display());
    let make = || format!("make it: (umask 077; openssl rand -hex 32 > {})", path.display());
    let denied = |why: String, hint: String| Error::new(ErrorKind::Denied, doing(), why).hint(hint);
    let file =
        std::fs::File::open(path).map_err(|e| Error::caused(ErrorKind::Denied, doing(), e).hint(make()))?;
    let metadata = file.metadata().or_kind(ErrorKind::Denied, doing)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if metadata.mode() & 0o077 != 0 {
            let why = format!("its mode is {:03o}: others may read it", metadata.mode() & 0o777);
            return Err(denied(why, format!("chmod 600 {}", path.display())));
        }
    }
    if !metadata.is_file() {
        return Err(denied("it is no file".into(), make()));
    }
    let mut text = String::new();
    file.take(LONGEST_BYTES).read_to_string(&mut text).or_kind(ErrorKind::Denied, doing)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.len() < SHORTEST || !text.bytes().all(|b| b.is_ascii_graphic()) {
        let why = format!("a token has at least {SHORTEST} characters, printable ASCII without blanks");
        return Err(denied(why, make()));
    }
    Ok(Secret::new(text))
}

/// Who is answered. Cheap to clone.
#[derive(Clone)]
pub struct Guard {
    token: Option<Arc<Secret>>,
    open_metrics: bool,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard {{ token: {}, open_metrics: {} }}", self.token.is_some(), self.open_metrics)
    }
}

impl Guard {
    /// Returns the guard that the configuration asks for, with its token read.
    pub fn of(plan: &HttpPlan) -> Result<Self> {
        Ok(Self { token: read(plan)?.map(Arc::new), open_metrics: plan.open_metrics })
    }

    /// Puts itself before routes: who shows no token is answered by `/livez` alone, and by `/metrics` where it is open.
    pub fn before(self, routes: Router) -> Router {
        match self.token {
            None => routes,
            Some(_) => routes.layer(middleware::from_fn_with_state(self, guarded)),
        }
    }

    fn lets(&self, path: &str, headers: &HeaderMap) -> bool {
        let open = path == "/livez" || path == "/metrics" && self.open_metrics;
        open || self.token.as_ref().is_some_and(|token| shown(headers, token))
    }
}

/// States whether a request shows the token. How long it takes says nothing of the token but its length.
fn shown(headers: &HeaderMap, token: &Secret) -> bool {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return false };
    // The scheme's letters may be large or small (RFC 9110 section 11.1).
    let Some((scheme, sent)) = value.as_bytes().split_at_checked("Bearer ".len()) else { return false };
    scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(sent.ct_eq(token.reveal().as_bytes()))
}

async fn guarded(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    if guard.lets(request.uri().path(), request.headers()) {
        return next.run(request).await;
    }
    let what = if request.headers().contains_key(header::AUTHORIZATION) {
        "this is not the token of this process"
    } else {
        "this process answers only who shows its token"
    };
    let text = format!(
        "{what}: send `Authorization: Bearer TOKEN`, where TOKEN is what stands in the file that `token_file` of [http] \
         names. `hutong status`, run with the same configuration by somebody who may read that file, sends it by \
         itself.\n"
    );
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer realm=\"hutong\"")], text).into_response()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn written(folder: &Path, text: &str, mode: u32) -> PathBuf {
        let path = folder.join("token");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn i5_a_token_that_others_may_read_or_anybody_may_guess_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let secret = of_file(&written(folder.path(), &format!("{TOKEN}\n"), 0o600)).unwrap();
        assert_eq!(secret.reveal(), TOKEN);
        let refused = [
            (TOKEN, 0o640, "chmod 600"),
            (TOKEN, 0o604, "chmod 600"),
            ("", 0o600, "umask 077"),
            ("\n", 0o600, "umask 077"),
            (&TOKEN[1..], 0o600, "umask 077"),
            ("0123456789abcdef 0123456789abcdef", 0o600, "umask 077"),
            ("0123456789abcdef\n0123456789abcdef", 0o600, "umask 077"),
        ];
        for (text, mode, hint) in refused {
            let error = of_file(&written(folder.path(), text, mode)).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Denied, "{text:?} {mode:o}");
            assert!(error.hint.as_ref().unwrap().contains(hint), "{text:?} {mode:o}: {:?}", error.hint);
            assert!(text.len() < 5 || !format!("{error} {error:?}").contains(text.trim()), "{error:?}");
        }
        let nowhere = of_file(&folder.path().join("nowhere")).unwrap_err();
        assert_eq!(nowhere.kind, ErrorKind::Denied);
        assert_eq!(of_file(folder.path()).unwrap_err().kind, ErrorKind::Denied);
    }

    #[test]
    fn i5_only_the_whole_token_opens_what_is_not_open() {
        let guard = |open_metrics| Guard { token: Some(Arc::new(Secret::new(TOKEN))), open_metrics };
        let headers = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            headers
        };
        for shown in [format!("Bearer {TOKEN}"), format!("bearer {TOKEN}")] {
            for path in ["/status", "/metrics", "/readyz", "/livez", "/whatever"] {
                assert!(guard(false).lets(path, &headers(&shown)), "{path}");
            }
        }
        let wrong = [
            String::new(),
            "Bearer".into(),
            "Bearer ".into(),
            TOKEN.into(),
            format!("Basic {TOKEN}"),
            format!("Bearer {}", &TOKEN[1..]),
            format!("Bearer {TOKEN}0"),
            format!("Bearer {}", TOKEN.to_uppercase()),
            format!("Bearer  {TOKEN}"),
        ];
        for value in &wrong {
            for path in
                ["/status", "/metrics", "/readyz", "/livez/", "//livez", "/livez/../status", "/metrics/x"]
            {
                assert!(!guard(false).lets(path, &headers(value)), "{value:?} {path}");
            }
            assert!(guard(false).lets("/livez", &headers(value)));
            assert!(guard(true).lets("/metrics", &headers(value)));
            assert!(!guard(true).lets("/status", &headers(value)));
        }
        assert!(!guard(true).lets("/readyz", &HeaderMap::new()));
        assert!(!format!("{:?}", guard(true)).contains(TOKEN));
    }
}
