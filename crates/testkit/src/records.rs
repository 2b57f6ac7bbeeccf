//! Records as services would send them, numbered so that tests can tell them apart.

use schemas::{
    Asset, AssetBroadcast, AssetId, AssetPreview, AssetReceipt, AssetRequest, AssetResponse, AssetState,
    Hash, Outcome, RequestAction, RequestId, SiteId,
};

/// 2026-01-01, in milliseconds since the Unix epoch.
const START: i64 = 1_767_225_600_000;

/// A site's id.
///
/// # Panics
/// When the name cannot be one.
pub fn site(name: &str) -> SiteId {
    name.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// The id of the test catalogue's entry `number`.
pub fn asset_id(number: u32) -> AssetId {
    AssetId::derive("test", &format!("entry-{number}"))
}

/// The hash of `bytes`.
pub fn hash(bytes: &[u8]) -> Hash {
    blake3::hash(bytes).into()
}

/// An asset that feed announced.
pub fn announced(number: u32, link: &str) -> Asset {
    Asset {
        asset_id: asset_id(number),
        state: AssetState::Announced,
        catalogue: "test".into(),
        native_id: format!("entry-{number}"),
        title: format!("Entry {number}"),
        description: format!("The entry {number} of the test catalogue."),
        link: Some(link.into()),
        credit: None,
        created_at: None,
        announced_at: START + i64::from(number),
        downloaded_at: None,
        expires_at: None,
        hash: None,
        size: None,
        media_type: None,
        file_name: None,
        reason: None,
    }
}

/// An asset whose bytes are in the core's volume.
pub fn downloaded(number: u32, bytes: &[u8]) -> Asset {
    Asset {
        state: AssetState::Downloaded,
        downloaded_at: Some(START + 1000 + i64::from(number)),
        hash: Some(hash(bytes)),
        size: i64::try_from(bytes.len()).ok(),
        media_type: Some("image/png".into()),
        file_name: Some(format!("entry-{number}.png")),
        ..announced(number, "http://127.0.0.1/entry.png")
    }
}

/// What the edges are told of an asset.
pub fn broadcast(number: u32, bytes: &[u8]) -> AssetBroadcast {
    AssetBroadcast {
        asset_id: asset_id(number),
        title: format!("Entry {number}"),
        description: format!("The entry {number} of the test catalogue."),
        credit: None,
        hash: hash(bytes),
        size: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
        media_type: "image/png".into(),
        file_name: format!("entry-{number}.png"),
        created_at: None,
        broadcast_at: START + 2000 + i64::from(number),
        expires_at: None,
        withdrawn_at: None,
        reason: None,
    }
}

/// A small picture of an asset; its bytes are no real picture.
pub fn preview(number: u32) -> AssetPreview {
    let picture = format!("picture {number}").into_bytes();
    AssetPreview {
        asset_id: asset_id(number),
        media_type: "image/webp".into(),
        width: 64,
        height: 48,
        picture,
    }
}

/// An edge asks for an asset.
pub fn request(edge: &SiteId, number: u32, attempt: i32) -> AssetRequest {
    let asset_id = asset_id(number);
    AssetRequest {
        request_id: RequestId::new(edge, &asset_id, attempt),
        asset_id,
        attempt,
        action: RequestAction::Request,
        requested_at: START + 3000 + i64::from(number),
        requested_by: Some("test".into()),
    }
}

/// An edge takes a request back.
pub fn cancel(edge: &SiteId, number: u32, attempt: i32) -> AssetRequest {
    AssetRequest {
        action: RequestAction::Cancel,
        ..request(edge, number, attempt)
    }
}

/// The core answers a request; a refusal gets a reason.
pub fn response(edge: &SiteId, number: u32, attempt: i32, outcome: Outcome) -> AssetResponse {
    let AssetRequest {
        request_id,
        asset_id,
        requested_at,
        ..
    } = request(edge, number, attempt);
    let reason = (outcome == Outcome::Refused).then(|| "not for tests".to_owned());
    AssetResponse {
        request_id,
        asset_id,
        attempt,
        outcome,
        reason,
        responded_at: requested_at + 1000,
    }
}

/// An edge has an asset whole.
pub fn receipt(edge: &SiteId, number: u32, attempt: i32, bytes: &[u8]) -> AssetReceipt {
    let AssetRequest {
        request_id,
        asset_id,
        requested_at,
        ..
    } = request(edge, number, attempt);
    let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    AssetReceipt {
        request_id,
        asset_id,
        hash: hash(bytes),
        size,
        mirrored_at: requested_at + 2000,
    }
}
