//! What holds for every route, added to the description of each: how callers say who they are, and how they are refused.
//!
//! The document names every answer, and none as "all else": what a handler alone answers stands at the handler; what the
//! guard, the sign-in and the reading of a request answer before it, and an engine that is away, is named here. 405 is the
//! answer to a method that a path does not have, so it belongs to no operation.

use utoipa::Modify;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder, SecurityRequirement};

const PROBLEM: &str = "application/problem+json";

/// Each refusal in words, for where the handler says nothing of its own.
const WORDS: [(&str, &str); 11] = [
    ("400", "the path, the query or the body is not as it should be"),
    ("401", "this needs a sign-in, or the token is not this site's"),
    (
        "403",
        "the caller's role may not do this, or another site's page could have sent it",
    ),
    (
        "404",
        "there is nothing of that name, or only at the other kind of site",
    ),
    ("409", "it cannot be done as things are now"),
    ("413", "the body is too large"),
    ("415", "the body is not JSON"),
    (
        "416",
        "there are no such bytes; `content-range` says how many there are",
    ),
    ("421", "this API does not answer to that host name"),
    (
        "429",
        "too many tries; `retry-after` says when the next may be made",
    ),
    ("503", "it cannot be answered now; try again in a moment"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Get,
    Post,
    Delete,
}

/// Adds it.
pub(super) struct Everywhere;

impl Modify for Everywhere {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
        let cookie = ApiKey::Cookie(ApiKeyValue::new("fieldline_session_<site>"));
        components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
        let nothing: [&str; 0] = [];
        document.security = Some(vec![
            SecurityRequirement::new("token", nothing),
            SecurityRequirement::new("session", nothing),
        ]);
        for (path, item) in &mut document.paths.paths {
            let operations = [
                (Method::Get, &mut item.get),
                (Method::Post, &mut item.post),
                (Method::Delete, &mut item.delete),
            ];
            for (method, operation) in operations {
                let Some(operation) = operation else { continue };
                if path == "/api/session" && method != Method::Delete {
                    operation.security = Some(Vec::new());
                }
                describe(method, operation);
            }
        }
    }
}

fn describe(method: Method, operation: &mut Operation) {
    let refusals = refusals(method, operation);
    let responses = &mut operation.responses.responses;
    for status in refusals {
        responses
            .entry(status.to_owned())
            .or_insert_with(|| problem().into());
    }
    for (status, response) in responses {
        let words = WORDS.iter().find(|(known, _)| known == status);
        let (Some((_, words)), RefOr::T(response)) = (words, response) else {
            continue;
        };
        if response.description.is_empty() {
            response.description = (*words).to_owned();
        }
        let json = response.content.shift_remove("application/json");
        response
            .content
            .extend(json.map(|content| (PROBLEM.to_owned(), content)));
    }
}

/// How an operation is refused before its handler is asked, or by what every handler works on.
fn refusals(method: Method, operation: &Operation) -> Vec<&'static str> {
    let mut refusals = vec!["401", "421", "503"];
    let has = |place: ParameterIn| {
        let mut parameters = operation.parameters.iter().flatten();
        parameters.any(|parameter| matches!(parameter, RefOr::T(one) if one.parameter_in == place))
    };
    if method == Method::Post || has(ParameterIn::Query) || has(ParameterIn::Path) {
        refusals.push("400");
    }
    if method != Method::Get {
        refusals.extend(["403", "413"]);
    }
    if method == Method::Post {
        refusals.push("415");
    }
    refusals
}

fn problem() -> Response {
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ProblemBody")));
    ResponseBuilder::new().content(PROBLEM, body.build()).build()
}
