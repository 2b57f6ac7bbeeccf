//! A running site, asked over its API as any script would.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::time::Instant;

/// One site's viewer.
#[derive(Debug, Clone)]
pub struct Site {
    /// The site's name.
    pub name: String,
    /// Its viewer's address, as `http://127.0.0.1:8080`.
    pub url: String,
    /// The file whose content makes its bearer an operator there.
    pub token_file: PathBuf,
    http: reqwest::Client,
}

impl Site {
    /// Names a site; nothing is sent yet.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(name: &str, port: u16, token_file: PathBuf) -> Result<Self> {
        // A second caller finds the provider installed already, which is as good.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(20))
            .build()?;
        Ok(Self {
            name: name.to_owned(),
            url: format!("http://127.0.0.1:{port}"),
            token_file,
            http,
        })
    }

    /// Reads a resource.
    ///
    /// # Errors
    /// When the site does not answer, or not with a success.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.answer(self.http.get(format!("{}{path}", self.url))).await
    }

    /// Reads a resource that is no single JSON document.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn text(&self, path: &str) -> Result<String> {
        let response = self.send(self.http.get(format!("{}{path}", self.url))).await?;
        Ok(response.error_for_status()?.text().await?)
    }

    /// Changes something.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post(&self, path: &str, body: Value) -> Result<Value> {
        self.answer(
            self.http
                .post(format!("{}{path}", self.url))
                .header("x-fieldline", "1")
                .json(&body),
        )
        .await
    }

    /// Asks for something whose answer is JSON lines.
    ///
    /// # Errors
    /// As [`Self::get`], and when a line is no JSON.
    pub async fn lines(&self, path: &str, body: Value) -> Result<Vec<Value>> {
        let request = self.http.post(format!("{}{path}", self.url));
        let response = self.send(request.header("x-fieldline", "1").json(&body)).await?;
        let text = response.error_for_status()?.text().await?;
        let lines = text.lines().map(serde_json::from_str);
        Ok(lines.collect::<Result<_, _>>()?)
    }

    /// Asks with the site's token.
    ///
    /// # Errors
    /// When the token file is missing, or the site does not answer.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response> {
        let token = std::fs::read_to_string(&self.token_file)
            .with_context(|| format!("{} has not made its token file", self.name))?;
        request
            .bearer_auth(token.trim())
            .send()
            .await
            .with_context(|| format!("{} does not answer", self.name))
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let response = self.send(request).await?;
        let status = response.status();
        let text = response.text().await?;
        if !status.is_success() {
            bail!("{} answered {status}: {text}", self.name);
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// All assets that the site knows, in one list.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn assets(&self) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.get(&format!("/api/assets?limit=1000&after={after}")).await?;
            let assets = page["assets"].as_array().context("no list of assets")?;
            all.extend(assets.iter().cloned());
            match page["next"].as_str() {
                Some(next) => after = next.to_owned(),
                None => return Ok(all),
            }
        }
    }

    /// How long a topic is, over all partitions, what nobody reads counted too.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn length(&self, topic: &str) -> Result<i64> {
        let topic = self.get(&format!("/api/topics/{topic}")).await?;
        let places = topic["offsets"].as_array().context("no list of offsets")?;
        let end = |place: &Value| Some(place["high"].as_i64()? - place["low"].as_i64()?);
        Ok(places.iter().filter_map(end).sum())
    }

    /// How many assets it knows.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn total(&self) -> Result<u64> {
        self.get("/api/assets?limit=1").await?["total"]
            .as_u64()
            .context("no total")
    }

    /// How many assets are in a state.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn count(&self, state: &str) -> Result<usize> {
        Ok(self
            .assets()
            .await?
            .iter()
            .filter(|asset| asset["state"] == state)
            .count())
    }

    /// Asks for an asset; a site that is just starting again is asked again.
    ///
    /// # Errors
    /// When the site has not taken it within a minute.
    pub async fn ask(&self, asset_id: &str, action: &str) -> Result<()> {
        eventually(
            Duration::from_secs(60),
            &format!("{} takes {action} of {asset_id}", self.name),
            || async {
                self.post(&format!("/api/assets/{asset_id}/{action}"), json!({}))
                    .await
                    .map(|_| ())
            },
        )
        .await
    }
}

impl Site {
    /// Gives the mirror command; a site that is just starting again is told again.
    ///
    /// # Errors
    /// When the site has not taken it within a minute.
    pub async fn ask_mirror(&self) -> Result<()> {
        eventually(
            Duration::from_secs(60),
            &format!("{} takes the mirror command", self.name),
            || async { self.post("/api/mirror/start", json!({})).await.map(|_| ()) },
        )
        .await
    }
}

/// Tries until it succeeds, at most `limit` long; the last failure becomes the error.
///
/// # Errors
/// When the limit has passed.
pub async fn eventually<T, F, Fut>(limit: Duration, what: &str, mut attempt: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let deadline = Instant::now() + limit;
    loop {
        match attempt().await {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("not within {limit:?}: {what}")));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
