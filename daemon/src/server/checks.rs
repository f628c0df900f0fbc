//! What a request has to be before anything looks at its path. Pure.
//!
//! The loopback port can be reached by everything on the machine, other users and web pages in a browser included.
//! A page can send requests, but not without headers that a browser adds by itself and no page can leave out; and
//! a page whose host name was made to mean 127.0.0.1 sends that name. None of them, and no other user, knows the
//! token. Invariant: no answer ever carries a header of the CORS family.

use axum::http::{HeaderMap, Method, StatusCode, header};
use styxy_protocol::Port;
use styxy_protocol::api::{self, ErrorCode};

use super::answers::Fault;

/// Headers that browsers add to what a page asks for (Fetch standard, RFC 9110 10.1.3).
const OF_A_PAGE: [header::HeaderName; 2] = [header::ORIGIN, header::REFERER];
const OF_A_PAGE_PREFIX: &str = "sec-fetch-";

/// What is looked at.
pub(super) struct Head<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a axum::http::Uri,
    pub(super) headers: &'a HeaderMap,
    /// Whether there is a body, even an endless one.
    pub(super) has_body: bool,
}

/// Refuses what comes from a web page or means another host: only for the port.
pub(super) fn comes_from_a_program(head: &Head<'_>, port: Port) -> Result<(), Fault> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next().filter(|_| hosts.next().is_none());
    let names = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    let is_ours = host.is_some_and(|host| names.iter().any(|name| host == name.as_str()));
    if !is_ours || head.uri.authority().is_some() {
        let error = "this request is for another host";
        return Err(forbidden(error).suggest(format!("send `Host: {}`", names[0])));
    }
    let is_of_a_page = |name: &header::HeaderName| {
        OF_A_PAGE.contains(name) || name.as_str().starts_with(OF_A_PAGE_PREFIX)
    };
    match head.headers.keys().find(|name| is_of_a_page(name)) {
        None => Ok(()),
        Some(name) => Err(forbidden(format!(
            "requests of web pages are refused, and this one has the header `{name}`"
        ))
        .suggest("use a client that is no browser")),
    }
}

/// Refuses who does not show the token: only for the port. Whether it was shown; who asks for the status alone need
/// not do so.
pub(super) fn shows_the_token(
    head: &Head<'_>,
    is_token: impl Fn(&[u8]) -> bool,
) -> Result<bool, Fault> {
    let shown = shown_token(head.headers);
    if shown.is_some_and(is_token) {
        return Ok(true);
    }
    if head.uri.path() == api::STATUS {
        return Ok(false);
    }
    let error = match shown {
        None => "Authentication required. Send `Authorization: Bearer TOKEN` or `X-API-Key: TOKEN`",
        Some(_) => "Invalid API key",
    };
    Err(
        Fault::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, error)
            .suggest("the token is in the file `auth.token` of styxy's home directory"),
    )
}

fn shown_token(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.as_bytes().split_at_checked(7)?;
        scheme
            .eq_ignore_ascii_case(b"bearer ")
            .then(|| token.trim_ascii())
    });
    bearer.or_else(|| Some(headers.get("x-api-key")?.as_bytes().trim_ascii()))
}

/// Refuses what this server does not speak: tunnels, other protocols, bodies that are not JSON. `is_lenient`: a body
/// may come without saying what it is.
pub(super) fn is_spoken_here(head: &Head<'_>, is_lenient: bool) -> Result<(), Fault> {
    if head.method == Method::CONNECT {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return Err(Fault::new(status, ErrorCode::NotFound, "this is no proxy"));
    }
    if head.headers.contains_key(header::UPGRADE) {
        let error = "this server speaks HTTP/1.1 and nothing else";
        return Err(Fault::invalid(error).suggest("leave out the header `Upgrade`"));
    }
    let mut types = head.headers.get_all(header::CONTENT_TYPE).iter();
    let is_json = match (types.next(), types.next()) {
        (None, _) => is_lenient,
        (Some(one), None) => one.to_str().is_ok_and(is_json),
        (Some(_), Some(_)) => false,
    };
    if head.has_body && !is_json {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        let error = "a body has to be JSON";
        return Err(Fault::new(status, ErrorCode::InvalidRequest, error)
            .suggest("send `Content-Type: application/json`"));
    }
    Ok(())
}

/// `application/json`, perhaps with its charset, which is always UTF-8 (RFC 8259 8.1).
fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    name.eq_ignore_ascii_case("application/json")
        && parts.all(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                name.eq_ignore_ascii_case("charset")
                    && value.trim_matches('"').eq_ignore_ascii_case("utf-8")
            })
        })
}

fn forbidden(error: impl Into<String>) -> Fault {
    Fault::new(StatusCode::FORBIDDEN, ErrorCode::Forbidden, error)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue, Uri};

    use super::*;

    const TOKEN: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let lines = lines.iter().map(|(name, value)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        });
        let mut headers = HeaderMap::new();
        lines.for_each(|(name, value)| {
            headers.append(name, value);
        });
        headers
    }

    fn check(
        method: &Method,
        uri: &str,
        lines: &[(&str, &str)],
        judge: impl Fn(&Head<'_>) -> Result<bool, Fault>,
    ) -> Result<bool, u16> {
        let head = Head {
            method,
            uri: &uri.parse::<Uri>().unwrap(),
            headers: &headers(lines),
            has_body: true,
        };
        judge(&head).map_err(|fault| fault.status().as_u16())
    }

    #[test]
    fn the_host_is_ours_with_the_port_and_nothing_else() {
        let port = Port::new(9876).unwrap();
        let ask = |uri: &str, lines: &[(&str, &str)]| {
            check(&Method::GET, uri, lines, |head| {
                comes_from_a_program(head, port).map(|()| true)
            })
        };
        for host in ["127.0.0.1:9876", "localhost:9876"] {
            assert_eq!(ask("/status", &[("host", host)]), Ok(true), "{host}");
        }
        for host in [
            "127.0.0.1",
            "localhost",
            "127.0.0.1:80",
            "127.0.0.1:98765",
            "0.0.0.0:9876",
            "[::1]:9876",
            "127.0.0.2:9876",
            "127.1:9876",
            "localhost.:9876",
            "evil.example:9876",
            "localhost:9876.evil.example",
            "user@localhost:9876",
            "localhost:9876 ",
            "",
        ] {
            assert_eq!(ask("/status", &[("host", host)]), Err(403), "{host:?}");
        }
        assert_eq!(ask("/status", &[]), Err(403));
        let two = [("host", "localhost:9876"), ("host", "evil.example")];
        assert_eq!(ask("/status", &two), Err(403));
        let ours = [("host", "localhost:9876")];
        assert_eq!(ask("http://evil.example/status", &ours), Err(403));
    }

    #[test]
    fn what_a_browser_adds_gives_a_page_away() {
        let port = Port::new(9876).unwrap();
        for (name, value) in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("origin", "http://localhost:9876"),
            ("referer", "http://127.0.0.1:9876/"),
            ("sec-fetch-site", "same-origin"),
            ("Sec-Fetch-Mode", "navigate"),
            ("sec-fetch-anything-new", ""),
        ] {
            let lines = [("host", "localhost:9876"), (name, value)];
            let answer = check(&Method::GET, "/status", &lines, |head| {
                comes_from_a_program(head, port).map(|()| true)
            });
            assert_eq!(answer, Err(403), "{name}: {value}");
        }
    }

    #[test]
    fn the_token_comes_in_either_header_and_the_status_needs_none() {
        let token = str::from_utf8(TOKEN).unwrap();
        let ask = |uri: &str, lines: &[(&str, &str)]| {
            check(&Method::GET, uri, lines, |head| {
                shows_the_token(head, |text| text == TOKEN)
            })
        };
        for (name, value) in [
            ("authorization", format!("Bearer {token}")),
            ("authorization", format!("bearer  {token}")),
            ("x-api-key", token.to_owned()),
        ] {
            assert_eq!(ask("/allocations", &[(name, &value)]), Ok(true), "{value}");
        }
        for (name, value) in [
            ("authorization", format!("Basic {token}")),
            ("authorization", token.to_owned()),
            ("authorization", "Bearer".to_owned()),
            ("x-api-key", format!("{token}x")),
            ("x-api-key", String::new()),
            ("cookie", format!("token={token}")),
        ] {
            assert_eq!(ask("/allocations", &[(name, &value)]), Err(401), "{value}");
        }
        assert_eq!(ask(&format!("/allocations?token={token}"), &[]), Err(401));
        assert_eq!(ask("/status", &[]), Ok(false));
        assert_eq!(ask("/status", &[("x-api-key", "wrong")]), Ok(false));
        assert_eq!(ask("/status/", &[]), Err(401));
    }

    #[test]
    fn a_body_is_json_and_says_so() {
        let ask = |lines: &[(&str, &str)], is_lenient| {
            check(&Method::POST, "/allocate", lines, |head| {
                is_spoken_here(head, is_lenient).map(|()| true)
            })
        };
        for good in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
        ] {
            assert_eq!(ask(&[("content-type", good)], false), Ok(true), "{good}");
        }
        for bad in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/json; charset=latin1",
            "application/json, text/plain",
            "application/jsonp",
            "",
        ] {
            for is_lenient in [false, true] {
                let answer = ask(&[("content-type", bad)], is_lenient);
                assert_eq!(answer, Err(415), "{bad:?}");
            }
        }
        assert_eq!(ask(&[], true), Ok(true));
        assert_eq!(ask(&[], false), Err(415));
        let two = [("content-type", "application/json"); 2];
        assert_eq!(ask(&two, true), Err(415));
    }

    #[test]
    fn there_are_no_tunnels_and_no_other_protocols() {
        let connect = check(&Method::CONNECT, "evil.example:80", &[], |head| {
            is_spoken_here(head, true).map(|()| true)
        });
        assert_eq!(connect, Err(405));
        let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
        let upgrade = check(&Method::GET, "/status", &upgrade, |head| {
            is_spoken_here(head, true).map(|()| true)
        });
        assert_eq!(upgrade, Err(400));
    }
}
