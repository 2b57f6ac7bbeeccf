//! Signing in and out, users, one-time links, the token.

use reqwest::Method;
use serde_json::json;
use viewer::Mode;

use crate::rig::{LIMIT, PASSWORD, Rig, nothing};

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_signed_in_is_told_what_site_this_is_and_no_more() {
    let rig = Rig::edge().await;
    let answer = rig.browse("", Method::GET, "/api/session", None).await;
    assert_eq!(answer.status, 200);
    let session = answer.body;
    assert_eq!((&session["user"], &session["role"]), (&json!(null), &json!(null)));
    assert_eq!(
        (&session["sign_in"], &session["site"]),
        (&json!("users"), &json!("edge-1"))
    );
    assert_eq!(
        (&session["kind"], &session["rights"]),
        (&json!("edge"), &json!([]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lasts_over_a_restart_and_until_its_sign_out() {
    let rig = Rig::edge().await;
    rig.user("field").await;
    let answer = rig.sign_in("field").await;
    assert_eq!((answer.status, &answer.body["role"]), (200, &json!("field")));
    let set = answer.headers["set-cookie"].to_str().unwrap();
    assert!(
        set.contains("HttpOnly") && set.contains("SameSite=Strict") && !set.contains("Secure"),
        "{set}"
    );
    let cookie = answer.cookie();
    let session = rig.browse(&cookie, Method::GET, "/api/session", None).await.body;
    assert_eq!(session["user"], "field");
    assert_eq!(
        session["rights"],
        json!(["request", "mirror", "link", "evict", "audit"])
    );
    let again = rig.again().await;
    let session = rig
        .browse_at(&again, &cookie, Method::GET, "/api/session", None)
        .await;
    assert_eq!(session.body["user"], "field");
    let out = rig.browse(&cookie, Method::DELETE, "/api/session", None).await;
    assert_eq!((out.status, &out.body["user"]), (200, &json!(null)));
    assert!(out.headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(
        rig.browse(&cookie, Method::GET, "/api/site", None).await.status,
        401
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_follows_ends_when_they_are_nobody_any_more() {
    let rig = Rig::core().await;
    let cookie = rig.user("analyst").await;
    let mut open = Vec::new();
    for path in ["/api/events", "/api/topics/asset-pipeline/records?follow=true"] {
        let request = rig.stranger.get(format!("{}{path}", rig.url));
        let response = request.header("cookie", &cookie).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200, "{path}");
        open.push(tokio::spawn(response.bytes()));
    }
    assert_eq!(
        rig.answer(Method::DELETE, "/api/users/analyst", None).await.0,
        200
    );
    for stream in open {
        let ended = tokio::time::timeout(LIMIT, stream).await;
        ended.expect("the stream ends").unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_made_slow_and_tells_nothing() {
    let rig = Rig::edge().await;
    rig.user("field").await;
    let guess = |user: &'static str| {
        let body = json!({"user": user, "password": "not the password"});
        rig.browse("", Method::POST, "/api/session", Some(body))
    };
    let (known, unknown) = (guess("field").await, guess("nobody").await);
    assert_eq!((known.status, unknown.status), (401, 401));
    assert_eq!(known.body, unknown.body);
    for _ in 0..4 {
        assert_eq!(guess("field").await.status, 401);
    }
    let slowed = guess("field").await;
    assert_eq!(slowed.status, 429);
    assert!(
        slowed.headers["retry-after"]
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            >= 1
    );
    assert_eq!(rig.sign_in("field").await.status, 429);
    let told = rig.get("/api/audit?action=session.sign_in&q=refused").await;
    assert_eq!(told["entries"].as_array().unwrap().len(), 6);
    assert!(
        told["entries"]
            .as_array()
            .unwrap()
            .iter()
            .all(|entry| entry["role"].is_null())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_a_user_ends_their_sessions() {
    let rig = Rig::edge().await;
    let first = rig.user("field").await;
    let site = |cookie: String| {
        let rig = &rig;
        async move { rig.browse(&cookie, Method::GET, "/api/site", None).await.status }
    };
    assert_eq!(site(first.clone()).await, 200);
    for change in [
        json!({"role": "viewer"}),
        json!({"password": PASSWORD}),
        json!({"disabled": true}),
    ] {
        let cookie = match rig.sign_in("field").await {
            answer if answer.status == 200 => answer.cookie(),
            answer => panic!("{} {}", answer.status, answer.body),
        };
        assert_eq!(site(cookie.clone()).await, 200, "{change}");
        assert_eq!(rig.post("/api/users/field", change.clone()).await.0, 200);
        assert_eq!(site(cookie).await, 401, "{change}");
    }
    assert_eq!(rig.sign_in("field").await.status, 401);
    assert_eq!(
        rig.post("/api/users/field", json!({"disabled": false})).await.0,
        200
    );
    let answer = rig.sign_in("field").await;
    assert_eq!(answer.body["role"], "viewer");
    let cookie = answer.cookie();
    assert_eq!(site(cookie.clone()).await, 200);
    assert_eq!(rig.answer(Method::DELETE, "/api/users/field", None).await.0, 200);
    assert_eq!(site(cookie).await, 401);
    assert_eq!(rig.sign_in("field").await.status, 401);
    assert_eq!(rig.answer(Method::DELETE, "/api/users/field", None).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_change_their_own_password_and_are_signed_out_everywhere_else() {
    let rig = Rig::core().await;
    let here = rig.user("viewer").await;
    let elsewhere = rig.sign_in("viewer").await.cookie();
    let change = async |cookie: &str, old: &str, new: &str| {
        let body = json!({"old_password": old, "password": new});
        rig.browse(cookie, Method::POST, "/api/session/password", Some(body))
            .await
    };
    let status = async |cookie: &str| rig.browse(cookie, Method::GET, "/api/site", None).await.status;
    let next = "another long password";
    assert_eq!(change("", PASSWORD, next).await.status, 401);
    let wrong = change(&here, "not the password", next).await;
    assert_eq!(
        (wrong.status, &wrong.body["detail"]),
        (403, &json!("the old password is wrong"))
    );
    assert_eq!(change(&here, PASSWORD, "short").await.status, 400);
    assert_eq!(change(&here, PASSWORD, PASSWORD).await.status, 400);
    assert_eq!((status(&here).await, status(&elsewhere).await), (200, 200));

    let changed = change(&here, PASSWORD, next).await;
    assert_eq!(
        (
            changed.status,
            &changed.body["user"],
            &changed.body["has_password"]
        ),
        (200, &json!("viewer"), &json!(true)),
        "{}",
        changed.body
    );
    let now = changed.cookie();
    assert_eq!(
        (status(&now).await, status(&here).await, status(&elsewhere).await),
        (200, 401, 401)
    );
    assert_eq!(rig.sign_in("viewer").await.status, 401);
    let body = json!({"user": "viewer", "password": next});
    let again = rig.browse("", Method::POST, "/api/session", Some(body)).await;
    assert_eq!(again.status, 200);

    let told = rig.get("/api/audit?action=session.password&user=viewer").await;
    let outcomes: Vec<_> = told["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["outcome"])
        .collect();
    assert_eq!((outcomes.len(), outcomes[0]), (4, &json!("done")), "{told}");
    assert_eq!(outcomes[3], "refused: the old password is wrong");
    assert!(!told.to_string().contains("long password"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_a_session_cannot_guess_its_password_and_who_has_none_is_told() {
    let rig = Rig::edge().await;
    let cookie = rig.user("field").await;
    let body = json!({"old_password": "not the password", "password": "another long password"});
    let change = async |cookie: &str| {
        rig.browse(cookie, Method::POST, "/api/session/password", Some(body.clone()))
            .await
    };
    for _ in 0..5 {
        assert_eq!(change(&cookie).await.status, 403);
    }
    assert_eq!(change(&cookie).await.status, 429);

    let (_, made) = rig
        .post("/api/tickets", json!({"user": "guest", "role": "viewer"}))
        .await;
    let guest = json!({"ticket": made["ticket"]});
    let guest = rig.browse("", Method::POST, "/api/session", Some(guest)).await;
    assert_eq!(guest.body["has_password"], false);
    let refused = change(&guest.cookie()).await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.body["detail"], "guest has no password here");
    assert_eq!(rig.post("/api/session/password", body.clone()).await.0, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_listed_without_their_passwords_and_wrong_ones_are_refused() {
    let rig = Rig::core().await;
    let operator = rig.user("operator").await;
    let list = rig.get("/api/users").await;
    assert_eq!(list["users"][0]["name"], "operator");
    assert!(!list.to_string().contains("argon2"));
    let add = |name: &str, role: &str, password: &str| {
        rig.post(
            "/api/users",
            json!({"name": name, "role": role, "password": password}),
        )
    };
    assert_eq!(add("operator", "viewer", PASSWORD).await.0, 409);
    assert_eq!(add("Kim", "viewer", PASSWORD).await.0, 400);
    assert_eq!(add("kim", "king", PASSWORD).await.0, 400);
    assert_eq!(add("kim", "viewer", "short").await.0, 400);
    assert_eq!(rig.post("/api/users/kim", json!({"role": "viewer"})).await.0, 404);
    let own = json!({"disabled": true});
    let answer = rig
        .browse(&operator, Method::POST, "/api/users/operator", Some(own))
        .await;
    assert_eq!(answer.status, 409);
    assert_eq!(
        rig.browse(&operator, Method::DELETE, "/api/users/operator", None)
            .await
            .status,
        409
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_gives_others_their_roles_and_the_last_operator_stays_one() {
    let rig = Rig::edge().await;
    let operator = rig.user("operator").await;
    let kim = rig.user("field").await;
    let set = |cookie: String, name: &'static str, role: &'static str| {
        let path = format!("/api/users/{name}");
        let rig = &rig;
        async move {
            let body = Some(json!({"role": role}));
            rig.browse(&cookie, Method::POST, &path, body).await
        }
    };
    assert_eq!(set(kim, "field", "operator").await.status, 403);
    let own = set(operator.clone(), "operator", "field").await;
    assert_eq!(own.status, 409, "{}", own.body);
    let given = set(operator.clone(), "field", "operator").await;
    assert_eq!((given.status, &given.body["role"]), (200, &json!("operator")));
    // Two may take it from each other, and the second has nobody to take it from.
    let other = rig.sign_in("field").await.cookie();
    assert_eq!(set(operator.clone(), "field", "analyst").await.status, 200);
    assert_eq!(set(other, "operator", "viewer").await.status, 401);
    // A guest who is operator by a link is none of the site's own.
    let (_, made) = rig
        .post("/api/tickets", json!({"user": "guest", "role": "operator"}))
        .await;
    let guest = json!({"ticket": made["ticket"]});
    let guest = rig
        .browse("", Method::POST, "/api/session", Some(guest))
        .await
        .cookie();
    let last = set(guest.clone(), "operator", "viewer").await;
    assert_eq!(
        (last.status, &last.body["detail"]),
        (409, &json!("operator is the last operator"))
    );
    let gone = rig
        .browse(&guest, Method::DELETE, "/api/users/operator", None)
        .await;
    assert_eq!(gone.status, 409);
    // The command line can mend whatever is wrong.
    let (status, _) = rig.post("/api/users/operator", json!({"role": "viewer"})).await;
    assert_eq!(status, 200);

    let told = rig.get("/api/audit?action=user.set").await;
    let told: Vec<_> = told["entries"].as_array().unwrap().iter().collect();
    let last = told.iter().find(|one| one["user"] == "guest").unwrap();
    assert_eq!(
        (&last["target"], &last["outcome"]),
        (
            &json!("operator"),
            &json!("refused: operator is the last operator")
        )
    );
    let given = told
        .iter()
        .rev()
        .find(|one| one["user"] == "operator" && one["outcome"] == "done");
    assert!(
        given.unwrap()["detail"].to_string().contains("operator"),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_signs_in_once() {
    let rig = Rig::edge().await;
    let operator = rig.user("operator").await;
    rig.user("field").await;
    let (status, made) = rig
        .post("/api/tickets", json!({"user": "guest", "role": "viewer"}))
        .await;
    assert_eq!(status, 201);
    assert!(made["expires_at"].is_i64());
    let body = json!({"ticket": made["ticket"]});
    let used = rig
        .browse("", Method::POST, "/api/session", Some(body.clone()))
        .await;
    assert_eq!(
        (used.status, &used.body["user"], &used.body["role"]),
        (200, &json!("guest"), &json!("viewer"))
    );
    assert_eq!(
        rig.browse(&used.cookie(), Method::GET, "/api/site", None)
            .await
            .status,
        200
    );
    assert_eq!(
        rig.browse("", Method::POST, "/api/session", Some(body))
            .await
            .status,
        401
    );
    // A user's own role counts where none is given, and a guest has none.
    let (_, made) = rig.post("/api/tickets", json!({"user": "field"})).await;
    assert_eq!(made["role"], "field");
    assert_eq!(rig.post("/api/tickets", json!({"user": "guest"})).await.0, 400);
    rig.post("/api/users/field", json!({"disabled": true})).await;
    let body = json!({"ticket": made["ticket"]});
    assert_eq!(
        rig.browse("", Method::POST, "/api/session", Some(body))
            .await
            .status,
        401
    );
    assert_eq!(rig.post("/api/tickets", json!({"user": "field"})).await.0, 409);
    // A link without an end is for the command line.
    let lasting = json!({"user": "demo", "role": "operator", "until_used": true});
    let asked = rig
        .browse(&operator, Method::POST, "/api/tickets", Some(lasting.clone()))
        .await;
    assert_eq!(asked.status, 403);
    assert!(rig.post("/api/tickets", lasting).await.1["expires_at"].is_null());
    // A guest's session ends when somebody is given the guest's name.
    let body = json!({"name": "guest", "role": "operator", "password": PASSWORD});
    assert_eq!(rig.post("/api/users", body).await.0, 201);
    assert_eq!(
        rig.browse(&used.cookie(), Method::GET, "/api/site", None)
            .await
            .status,
        401
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_must_be_one_kind_and_a_wrong_token_is_no_stranger() {
    let rig = Rig::edge().await;
    for body in [
        json!({}),
        json!({"user": "kim"}),
        json!({"user": "kim", "password": "x", "ticket": "y"}),
    ] {
        assert_eq!(
            rig.browse("", Method::POST, "/api/session", Some(body))
                .await
                .status,
            400
        );
    }
    let wrong = rig
        .stranger
        .get(format!("{}/api/session", rig.url))
        .header("authorization", "Bearer wrong");
    assert_eq!(wrong.send().await.unwrap().status().as_u16(), 401);
    let session = rig.get("/api/session").await;
    assert_eq!(
        (&session["user"], &session["role"]),
        (&json!("command line"), &json!("operator"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_signs_in_everybody_is_operator_and_that_is_said() {
    let rig = Rig::edge_with(|settings| settings.sign_in = Mode::Off).await;
    let session = rig.browse("", Method::GET, "/api/session", None).await.body;
    assert_eq!(
        (&session["user"], &session["role"]),
        (&json!("anyone"), &json!("operator"))
    );
    assert_eq!(session["sign_in"], "off");
    let new = json!({"name": "made-by-anyone"});
    assert_eq!(
        rig.browse("", Method::POST, "/api/topics", Some(new))
            .await
            .status,
        201
    );
    let told = rig.get("/api/audit?action=topic.create").await;
    assert_eq!(told["entries"][0]["user"], "anyone");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_known_proxy_the_cookie_is_secure_and_the_address_is_the_callers() {
    let rig = Rig::edge_with(|settings| settings.trusted_proxies = vec!["127.0.0.0/8".into()]).await;
    rig.user("field").await;
    let request = rig
        .stranger
        .post(format!("{}/api/session", rig.url))
        .header("x-fieldline", "1")
        .header("x-forwarded-for", "6.6.6.6, 192.0.2.9")
        .header("x-forwarded-proto", "https")
        .json(&json!({"user": "field", "password": PASSWORD}));
    let response = request.send().await.unwrap();
    assert!(
        response.headers()["set-cookie"]
            .to_str()
            .unwrap()
            .ends_with("; Secure")
    );
    let told = rig.get("/api/audit?q=192.0.2.9").await;
    assert_eq!(told["entries"][0]["action"], "session.sign_in");
    let direct = Rig::edge().await;
    let request = direct
        .http
        .post(format!("{}/api/link/pause", direct.url))
        .header("x-fieldline", "1")
        .header("x-forwarded-for", "192.0.2.9")
        .json(&nothing());
    request.send().await.unwrap();
    let told = direct.get("/api/audit?action=link.pause").await;
    assert_eq!(told["entries"][0]["from"], "127.0.0.1");
}
