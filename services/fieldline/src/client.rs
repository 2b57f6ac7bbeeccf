//! A running site's API, over HTTP, with the right of the site's token file.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::cli::Api;
use crate::token;

/// Speaks to one site's viewer.
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
    token_file: Option<PathBuf>,
    /// Read before the first call; none where no file was found.
    token: OnceCell<Option<String>>,
}

impl Client {
    pub(crate) fn new(api: &Api) -> Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .build()
            .context("cannot set up the HTTP client")?;
        Ok(Self {
            base: api.url.trim_end_matches('/').to_owned(),
            http,
            token_file: api.token_file.clone(),
            token: OnceCell::new(),
        })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.json(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Result<Value> {
        self.json(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Value> {
        self.json(Method::DELETE, path, None).await
    }

    async fn json(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let text = self
            .send(method, path, body)
            .await?
            .text()
            .await
            .context("the answer broke off")?;
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| format!("{}{path} did not answer with JSON", self.base))
    }

    async fn token(&self) -> Result<Option<&String>> {
        let find = || async {
            match &self.token_file {
                Some(path) => token::read(path).map(Some),
                None => Ok(self.known_token().await),
            }
        };
        Ok(self.token.get_or_try_init(find).await?.as_ref())
    }

    /// The token of a site of this machine, if its file lies where such files are. No other site is shown any.
    async fn known_token(&self) -> Option<String> {
        if !token::loopback(&self.base) {
            return None;
        }
        let session = self.http.get(format!("{}/api/session", self.base)).send().await;
        let session: Value = session.ok()?.json().await.ok()?;
        token::known(session["site"].as_str()?)
    }

    /// Sends a request and turns every answer that is not a success into an error that says what the site said.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Result<Response> {
        // The header cannot be set by another site's page in a browser, so it shows that this is no forged request.
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .header("x-fieldline", "1");
        if let Some(token) = self.token().await? {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.map_err(|error| {
            anyhow!(error).context(format!(
                "cannot reach a site at {}\nhint: is it running? `fieldline demo` starts one; --url or FIELDLINE_URL names another",
                self.base
            ))
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let problem: Value = response.json().await.unwrap_or_default();
        let said = problem["detail"].as_str().or_else(|| problem["title"].as_str());
        let hint = match status {
            StatusCode::UNAUTHORIZED => {
                "\nhint: name the site's token file with --token-file or FIELDLINE_TOKEN_FILE; it is viewer.token_file of its settings"
            }
            _ => "",
        };
        match said {
            Some(said) => bail!("{said} ({status}){hint}"),
            None => bail!("{}{path} answered {status}", self.base),
        }
    }
}
