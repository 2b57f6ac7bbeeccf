//! Mountain ranges one behind another.

use image::RgbImage;

use super::noise::{Colour, Seed, lerp, stars, step};

/// Sky above, sky at the horizon, far range, near range, light.
const MOODS: [[u32; 5]; 6] = [
    [0x274b7a, 0xf6b48a, 0xc98f8c, 0x1d2436, 0xffe2b0],
    [0x4a86c5, 0xe3eef6, 0xa9bfd2, 0x243a35, 0xfff6dc],
    [0x2b1b4f, 0xe26f8b, 0x9b5f8f, 0x171230, 0xffc3a0],
    [0x0b1530, 0x3b5c86, 0x344f77, 0x070c18, 0xe8efff],
    [0x6fa3a8, 0xf4ead0, 0xa8b8a6, 0x2c3626, 0xfff0c0],
    [0x8a94a8, 0xe9ddd3, 0xb4b1b6, 0x2f3038, 0xfffbf0],
];
const RANGES: usize = 6;

pub(super) fn paint(seed: Seed, width: u32, height: u32) -> RgbImage {
    let [zenith, horizon, far, near, light] = seed.pick(1, &MOODS).map(Colour::hex);
    let (w, h) = (width as f32, height as f32);
    let sun = (seed.range(2, 0.15, 0.85) * w, seed.range(3, 0.14, 0.42) * h);
    let sun_size = seed.range(4, 0.025, 0.05) * h;
    let night = zenith.0[2] < 0.25;

    // Each range's outline, one height for each column.
    let outlines: Vec<Vec<f32>> = (0..RANGES)
        .map(|range| {
            let near = range as f32 / (RANGES - 1) as f32;
            let seed = seed.fork(100 + range as u32);
            let (base, rise) = (lerp(0.46, 0.9, near), lerp(0.2, 0.26, near));
            let scale = lerp(5.5, 2.4, near) / w;
            (0..width)
                .map(|x| {
                    let ridge = 1.0 - (2.0 * seed.cloud(x as f32 * scale, 0.5, 7) - 1.0).abs() * 1.7;
                    (base - rise * (ridge - 0.45)) * h
                })
                .collect()
        })
        .collect();

    RgbImage::from_fn(width, height, |column, row| {
        let (x, y) = (column as f32, row as f32);
        let front = outlines.iter().rposition(|outline| y >= outline[column as usize]);
        let distance = ((x - sun.0).powi(2) + (y - sun.1).powi(2)).sqrt();
        let colour = match front {
            None => {
                let sky = zenith.toward(horizon, (y / (0.62 * h)).min(1.0).powf(0.8));
                let streaks = step(0.52, 0.8, seed.fork(7).cloud(x / w * 3.0, y / h * 11.0, 4));
                let mut sky = sky.toward(light, streaks * 0.35);
                if night {
                    sky = sky.plus(Colour::WHITE, stars(seed.fork(9), x, y, 23.0) * (1.0 - y / h));
                }
                let glow = (-distance / (0.28 * h)).exp();
                sky.plus(light, glow * 0.45)
                    .toward(light, 1.0 - step(sun_size - 1.0, sun_size + 1.0, distance))
            }
            Some(range) => {
                let near_by = range as f32 / (RANGES - 1) as f32;
                let below = (y - outlines[range][column as usize]) / h;
                let rock = seed.fork(200 + range as u32).cloud(x / 26.0, y / 15.0, 4) - 0.5;
                let body = far.toward(near, near_by.powf(0.85));
                // Haze gathers in the valleys in front of the next range.
                let haze = (below * 3.2).min(0.6) * (1.0 - near_by);
                let lit = (-distance / (0.6 * h)).exp() * 0.3 * (1.0 - near_by * 0.6);
                body.times(1.0 + rock * lerp(0.22, 0.9, near_by))
                    .toward(horizon, haze)
                    .plus(light, lit)
            }
        };
        let grain = (seed.fork(11).cell(column.cast_signed(), row.cast_signed()) - 0.5) * 0.016;
        colour.plus(Colour::WHITE, grain).pixel()
    })
}
