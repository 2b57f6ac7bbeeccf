//! Contour maps of imagined terrain.

use image::RgbImage;

use super::noise::{Colour, Seed};

const SEA: [u32; 4] = [0x6da3c7, 0x8bbad6, 0xabd0e3, 0xc8e2ec];
const LAND: [[u32; 8]; 3] = [
    [
        0xb5cf9b, 0xc8d8a0, 0xdddfa8, 0xeadca0, 0xe0c489, 0xcfa974, 0xbd9068, 0xefece8,
    ],
    [
        0x9fc3a0, 0xb6d0a4, 0xd2ddb0, 0xe6e4bf, 0xd9cfae, 0xc2b39b, 0xab9a8b, 0xf4f4f2,
    ],
    [
        0xd8cfa6, 0xe2d6a9, 0xead9a0, 0xe6c88c, 0xd8ad76, 0xc49163, 0xad7853, 0xe9dccb,
    ],
];
const INK: u32 = 0x8a6a4a;
const SHORE: u32 = 0x2f5f86;
const GRID: u32 = 0x9aa4a8;
const SHORELINE: f32 = 0.47;
const INTERVAL: f32 = 0.022;

pub(super) fn paint(seed: Seed, width: u32, height: u32) -> RgbImage {
    let land = seed.pick(1, &LAND).map(Colour::hex);
    let sea = SEA.map(Colour::hex);
    let scale = seed.range(2, 3.2, 5.0) / height as f32;
    let level = SHORELINE + seed.range(3, -0.05, 0.05);
    let bend = seed.range(4, 0.6, 1.6);
    let heights: Vec<f32> = (0..=height)
        .flat_map(|row| (0..=width).map(move |column| (column as f32 * scale, row as f32 * scale)))
        .map(|(x, y)| {
            let moved = seed.fork(10).cloud(x * 0.7, y * 0.7, 2) * bend;
            seed.fork(11).cloud(x + moved, y - moved, 6) - level
        })
        .collect();
    let at = |column: u32, row: u32| heights[(row * (width + 1) + column) as usize];
    let band = |height: f32| (height / INTERVAL).floor();

    RgbImage::from_fn(width, height, |column, row| {
        let here = at(column, row);
        let (right, below) = (at(column + 1, row), at(column, row + 1));
        let lines = band(here).max(band(right)).max(band(below));
        let crossed = band(here) != band(right) || band(here) != band(below);
        let colour = if here.min(right).min(below) < 0.0 && here.max(right).max(below) >= 0.0 {
            Colour::hex(SHORE)
        } else if crossed && here >= 0.0 {
            // Every fifth line is drawn stronger.
            let strength = if (lines % 5.0).abs() < 0.5 { 0.95 } else { 0.5 };
            tint(&land, here / 0.34).toward(Colour::hex(INK), strength)
        } else if here >= 0.0 {
            tint(&land, here / 0.34)
        } else {
            tint(&sea, 1.0 + here / 0.16)
        };
        let on_grid = column % 160 == 80 || row % 160 == 80;
        colour
            .toward(Colour::hex(GRID), if on_grid { 0.45 } else { 0.0 })
            .pixel()
    })
}

/// Flat steps of colour, as on printed maps.
fn tint(stops: &[Colour], t: f32) -> Colour {
    let stop = (t.clamp(0.0, 0.999) * stops.len() as f32) as usize;
    stops[stop.min(stops.len() - 1)]
}
