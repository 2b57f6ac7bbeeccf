//! A site with a viewer, called as anybody would.

use std::time::Duration;

use common::broker::{Broker, Outgoing, TopicSpec};
use common::chassis::{Host, Service, Stop};
use common::schemas::{CORE_TABLES, EDGE_TABLES, Record, SiteId, Topic, encode};
use common::table::Session;
use common::volume::Volume;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use testkit::{TempDir, eventually};
use viewer::{Settings, Viewer};

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Rig {
    pub(crate) site: SiteId,
    pub(crate) broker: Broker,
    pub(crate) table: Session,
    pub(crate) volume: Volume,
    pub(crate) url: String,
    /// Sends the token, so that it is the operator.
    pub(crate) http: reqwest::Client,
    /// Sends nothing that says who it is.
    pub(crate) stranger: reqwest::Client,
    settings: Settings,
    stop: Stop,
    _dir: TempDir,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Rig {
    pub(crate) async fn edge() -> Self {
        Self::start("edge-1", true, |_| ()).await
    }

    pub(crate) async fn core() -> Self {
        Self::start("core", false, |_| ()).await
    }

    /// An edge with other settings.
    pub(crate) async fn edge_with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::start("edge-1", true, change).await
    }

    /// The same, of another name.
    pub(crate) async fn edge_named(name: &str, change: impl FnOnce(&mut Settings)) -> Self {
        Self::start(name, true, change).await
    }

    /// Another viewer of the same site, as after a restart; it stops with the rig. Returns its address.
    pub(crate) async fn again(&self) -> String {
        serve(&self.settings, self.site.as_str(), &self.stop).await
    }

    async fn start(name: &str, edge: bool, change: impl FnOnce(&mut Settings)) -> Self {
        // A second caller finds the provider installed already, which is as good.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let dir = testkit::temp_dir();
        let mut settings = Settings::default();
        settings.broker.url = testkit::sqlite(dir.path(), "broker.db");
        settings.table.url = testkit::sqlite(dir.path(), "table.db");
        settings.volume.url = testkit::directory(dir.path(), "volume");
        settings.listen = "127.0.0.1:0".parse().unwrap();
        settings.token_file = Some(dir.path().join("viewer.token"));
        change(&mut settings);
        let site = testkit::site(name);
        let registry = prometheus::Registry::new();
        let broker = Broker::open(&settings.broker, "test", &registry).await.unwrap();
        let topics = if edge { Topic::edge(&site) } else { Topic::core() };
        for topic in topics {
            let spec = TopicSpec::new(&topic.name, topic.partitions.unwrap_or(3));
            broker
                .create_topic(&if topic.compacted { spec.compacted() } else { spec })
                .await
                .unwrap();
        }
        let table = Session::open(&settings.table, "test", &registry).await.unwrap();
        table
            .migrate(if edge { EDGE_TABLES } else { CORE_TABLES })
            .await
            .unwrap();
        let volume = Volume::open(&settings.volume).await.unwrap();
        let stop = Stop::new();
        let url = serve(&settings, name, &stop).await;
        let token = std::fs::read_to_string(dir.path().join("viewer.token")).unwrap();
        let bearer = format!("Bearer {}", token.trim()).parse().unwrap();
        let http = reqwest::Client::builder()
            .no_proxy()
            .default_headers([(reqwest::header::AUTHORIZATION, bearer)].into_iter().collect())
            .build()
            .unwrap();
        let stranger = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            stranger,
            settings,
            site,
            broker,
            table,
            volume,
            url,
            http,
            stop,
            _dir: dir,
        }
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Response {
        let mut request = self
            .http
            .request(method.clone(), format!("{}{path}", self.url))
            .header("x-fieldline", "1");
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        promised(&method, path, &response);
        response
    }

    /// The answer's status and JSON.
    pub(crate) async fn answer(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let response = self.call(method, path, body).await;
        let status = response.status().as_u16();
        let kind = response
            .headers()
            .get("content-type")
            .map(|kind| kind.to_str().unwrap().to_owned());
        let text = response.text().await.unwrap();
        if status >= 400 {
            assert_eq!(kind.as_deref(), Some("application/problem+json"), "{text}");
        }
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.answer(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.answer(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn send<R: Record>(&self, topic: &str, key: &str, record: &R) {
        let record = Outgoing::new(topic, key, encode(record).unwrap());
        self.broker.producer().unwrap().send(record).await.unwrap();
    }

    /// Waits until an answer is as wanted.
    pub(crate) async fn shows(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(LIMIT, || async {
            let (status, answer) = self.answer(Method::GET, path, None).await;
            if status == 200 && wanted(&answer) {
                Ok(answer)
            } else {
                Err(format!("{status} {answer}"))
            }
        })
        .await
    }
}

fn promised(method: &Method, path: &str, response: &Response) {
    let kind = response.headers().get("content-type");
    let kind = kind.map(|kind| kind.to_str().unwrap());
    crate::promised::check(method, path, response.status().as_u16(), kind);
}

async fn serve(settings: &Settings, site: &str, stop: &Stop) -> String {
    let host = Host::detached("viewer", site);
    let viewer = Viewer::build(settings.clone(), &host).await.unwrap();
    host.ready();
    let url = format!("http://{}", viewer.address().unwrap());
    tokio::spawn(viewer.run(stop.child_token()));
    url
}

/// An answer to somebody who has not sent the token.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// What a browser would send from now on.
    pub(crate) fn cookie(&self) -> String {
        let set = self.headers["set-cookie"].to_str().unwrap();
        set.split(';').next().unwrap().to_owned()
    }
}

impl Rig {
    /// Calls as a browser that holds this cookie, or as nobody.
    pub(crate) async fn browse(
        &self,
        cookie: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        self.browse_at(&self.url, cookie, method, path, body).await
    }

    pub(crate) async fn browse_at(
        &self,
        url: &str,
        cookie: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let mut request = self
            .stranger
            .request(method.clone(), format!("{url}{path}"))
            .header("x-fieldline", "1");
        if !cookie.is_empty() {
            request = request.header("cookie", cookie);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        promised(&method, path, &response);
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        // A stream of events has no end to wait for.
        let stream = headers
            .get("content-type")
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let text = if stream {
            String::new()
        } else {
            response.text().await.unwrap()
        };
        Answer {
            status,
            headers,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
        }
    }

    /// Adds a user with this role, named like it, and signs in; returns the cookie.
    pub(crate) async fn user(&self, role: &str) -> String {
        let body = json!({"name": role, "role": role, "password": PASSWORD});
        let (status, answer) = self.post("/api/users", body).await;
        assert_eq!(status, 201, "{answer}");
        self.sign_in(role).await.cookie()
    }

    pub(crate) async fn sign_in(&self, user: &str) -> Answer {
        let body = json!({"user": user, "password": PASSWORD});
        self.browse("", Method::POST, "/api/session", Some(body)).await
    }
}

/// The password of every user here.
pub(crate) const PASSWORD: &str = "a long password";

pub(crate) fn nothing() -> Value {
    json!({})
}
