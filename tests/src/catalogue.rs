//! A catalogue of pictures behind an HTTP server on loopback, as a NASA Images API search has it.
//!
//! The real search result and its pictures are used where `FIELDLINE_DATA` (default `../shared/data`) has them; a
//! made one of the same shape stands in where not.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::extract::{Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};

/// A catalogue, and the server that has its pictures.
#[derive(Debug)]
pub struct Catalogue {
    /// The search result's file.
    pub file: PathBuf,
    /// The server's address.
    pub address: SocketAddr,
    /// What each link starts with, to be rewritten to the server.
    pub prefix: &'static str,
    /// Entries in the search result.
    pub entries: usize,
    /// The pictures' bytes by file name; every other link answers 404.
    pub pictures: Arc<HashMap<String, Vec<u8>>>,
    server: tokio::task::JoinHandle<()>,
}

const PREFIX: &str = "https://images-assets.nasa.gov/";

impl Catalogue {
    /// The real search result where it is there, else a made one.
    ///
    /// # Errors
    /// When the data cannot be read or the server cannot listen.
    pub async fn serve(directory: &Path) -> Result<Self> {
        let data = std::env::var_os("FIELDLINE_DATA").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
            PathBuf::from,
        );
        let real = data.join("nasa-images");
        if !real.join("search.json").is_file() {
            return Self::made(directory, 60, 24, 300).await;
        }
        let search: Value = serde_json::from_slice(&std::fs::read(real.join("search.json"))?)?;
        let mut pictures = HashMap::new();
        for entry in std::fs::read_dir(real.join("thumbs"))? {
            let entry = entry?;
            pictures.insert(
                entry.file_name().to_string_lossy().into_owned(),
                std::fs::read(entry.path())?,
            );
        }
        Self::of(directory, &search, pictures).await
    }

    /// A search result of `entries` items, the first `with_picture` of which have one of `side` pixels a side.
    ///
    /// # Errors
    /// When the server cannot listen.
    pub async fn made(directory: &Path, entries: usize, with_picture: usize, side: u32) -> Result<Self> {
        Self::heavy(directory, entries, with_picture, side, 0).await
    }

    /// The same; behind the end of each picture, where nobody looks, come so many bytes that nothing makes smaller.
    ///
    /// # Errors
    /// As [`Self::made`].
    pub async fn heavy(
        directory: &Path,
        entries: usize,
        with_picture: usize,
        side: u32,
        more: usize,
    ) -> Result<Self> {
        let mut pictures = HashMap::new();
        let items: Vec<Value> = (0..entries)
            .map(|number| {
                let id = format!("MADE-{number:05}");
                if number < with_picture {
                    pictures.insert(format!("{id}~thumb.png"), picture(number, side, more));
                }
                json!({
                    "data": [{"nasa_id": id, "title": format!("Made picture {number}"), "media_type": "image",
                              "description": "A gradient that a test has made.", "date_created": "2020-01-01T00:00:00Z"}],
                    "links": [{"href": format!("{PREFIX}image/{id}/{id}~thumb.png"), "rel": "preview"}],
                })
            })
            .collect();
        Self::of(directory, &json!({"collection": {"items": items}}), pictures).await
    }

    async fn of(directory: &Path, search: &Value, pictures: HashMap<String, Vec<u8>>) -> Result<Self> {
        let file = directory.join("search.json");
        std::fs::write(&file, serde_json::to_vec(search)?).context("cannot write the search result")?;
        let entries = search["collection"]["items"].as_array().map_or(0, Vec::len);
        let pictures = Arc::new(pictures);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let routes = axum::Router::new()
            .route("/{*path}", axum::routing::get(send))
            .with_state(pictures.clone());
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                panic!("the catalogue's server ended: {error}");
            }
        });
        Ok(Self {
            file,
            address,
            prefix: PREFIX,
            entries,
            pictures,
            server,
        })
    }
}

impl Drop for Catalogue {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn send(
    State(pictures): State<Arc<HashMap<String, Vec<u8>>>>,
    UrlPath(path): UrlPath<String>,
) -> impl IntoResponse {
    let name = path.rsplit('/').next().unwrap_or_default();
    match pictures.get(name) {
        Some(bytes) => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, "application/octet-stream")],
            bytes.clone(),
        ),
        None => (
            StatusCode::NOT_FOUND,
            [(header::CONTENT_TYPE, "text/plain")],
            b"no such picture".to_vec(),
        ),
    }
}

fn picture(number: usize, side: u32, more: usize) -> Vec<u8> {
    let tint = u32::try_from(number % 251).unwrap_or(0);
    let image = image::RgbImage::from_fn(side, side, |x, y| {
        let part = |value: u32| u8::try_from((value + tint) % 256).unwrap_or(0);
        image::Rgb([
            part(x * 255 / side),
            part(y * 255 / side),
            part((x + y + tint * 3) * 127 / side),
        ])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    // Encoding into memory cannot run out of anything but memory.
    let written = image.write_to(&mut bytes, image::ImageFormat::Png);
    debug_assert!(written.is_ok(), "a picture in memory encodes");
    // Makes every picture's bytes, and so its hash, its own.
    let mut bytes = bytes.into_inner();
    bytes.extend_from_slice(&number.to_be_bytes());
    let end = bytes.len();
    bytes.resize(end + more, 0);
    let mut random = blake3::Hasher::new().update(&number.to_be_bytes()).finalize_xof();
    random.fill(&mut bytes[end..]);
    bytes
}
