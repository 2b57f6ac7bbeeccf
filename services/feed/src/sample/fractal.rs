//! Julia sets.

use image::RgbImage;

use super::noise::{Colour, Seed, gradient};

/// Constants whose sets are worth looking at.
const CONSTANTS: [(f32, f32); 10] = [
    (-0.70, 0.27),
    (-0.8, 0.156),
    (-0.743, 0.131),
    (0.285, 0.01),
    (-0.123, 0.745),
    (-0.4, 0.6),
    (-0.835, -0.2321),
    (0.355, 0.355),
    (-0.54, 0.54),
    (-0.1, 0.651),
];
const PALETTES: [[u32; 6]; 5] = [
    [0x060b24, 0x124e89, 0x5fb3ce, 0xf7f3df, 0xe8a13a, 0x6b1e1a],
    [0x0b0614, 0x4a1a5c, 0xc03f6e, 0xf8a46a, 0xfff2cc, 0x2a6f7f],
    [0x041410, 0x0f4f42, 0x5aa67a, 0xe9f0c0, 0xd08f3f, 0x401f18],
    [0x0a0f18, 0x384a66, 0x8fa9c2, 0xf7fafc, 0xb0c4de, 0x1f2a44],
    [0x140806, 0x6a2412, 0xd8742a, 0xffdd8f, 0xfbf6e8, 0x6f2f4f],
];
const MOST: u32 = 220;

pub(super) fn paint(seed: Seed, width: u32, height: u32) -> RgbImage {
    let palette = seed.pick(1, &PALETTES).map(Colour::hex);
    let (re, im) = seed.pick(2, &CONSTANTS);
    let (re, im) = (
        re + seed.range(3, -0.004, 0.004),
        im + seed.range(4, -0.004, 0.004),
    );
    let scale = seed.range(5, 1.9, 2.5) / height as f32;
    let turn = seed.range(6, -0.6, 0.6);
    let cycle = seed.range(7, 0.9, 1.6);
    let (sin, cos) = turn.sin_cos();

    RgbImage::from_fn(width, height, |column, row| {
        let (u, v) = (
            (column as f32 - width as f32 / 2.0) * scale,
            (row as f32 - height as f32 / 2.0) * scale,
        );
        let (mut x, mut y) = (u * cos - v * sin, u * sin + v * cos);
        let (mut count, mut nearest) = (0, f32::MAX);
        while count < MOST && x * x + y * y < 256.0 {
            (x, y) = (x * x - y * y + re, 2.0 * x * y + im);
            nearest = nearest.min(x * x + y * y);
            count += 1;
        }
        let colour = if count == MOST {
            gradient(&palette, nearest.sqrt().min(1.0)).times(0.55)
        } else {
            let smooth = count as f32 + 1.0 - (0.5 * (x * x + y * y).ln() / std::f32::consts::LN_2).log2();
            let along = (smooth.max(0.0) / 24.0).powf(0.6) * cycle;
            // There and back again, so that colours never jump.
            let folded = 1.0 - (along % 2.0 - 1.0).abs();
            gradient(&palette, folded)
        };
        colour.pixel()
    })
}
