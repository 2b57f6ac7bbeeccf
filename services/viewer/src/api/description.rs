//! What holds for every route, added to the description of each: how callers say who they are, and how they are refused.

use utoipa::Modify;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder, SecurityRequirement};

const PROBLEM: &str = "application/problem+json";

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
                (true, &mut item.get),
                (path == "/api/session", &mut item.post),
                (false, &mut item.delete),
            ];
            for (reads, operation) in operations {
                let Some(operation) = operation else { continue };
                if reads && path == "/api/session" {
                    operation.security = Some(Vec::new());
                }
                for (status, response) in &mut operation.responses.responses {
                    if let (RefOr::T(response), true) = (response, status.starts_with(['4', '5'])) {
                        let content = response.content.shift_remove("application/json");
                        response
                            .content
                            .extend(content.map(|content| (PROBLEM.to_owned(), content)));
                    }
                }
                let problem = ResponseBuilder::new()
                    .description(
                        "it is not done, and why: 400, 401, 403, 404, 409, 413, 415, 421, 429 or 503",
                    )
                    .content(
                        PROBLEM,
                        ContentBuilder::new()
                            .schema(Some(Ref::from_schema_name("ProblemBody")))
                            .build(),
                    )
                    .build();
                let all = &mut operation.responses.responses;
                all.entry("default".to_owned()).or_insert_with(|| problem.into());
            }
        }
    }
}
