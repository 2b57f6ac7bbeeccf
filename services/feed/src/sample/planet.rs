//! Imagined planets.

use image::RgbImage;

use super::noise::{Colour, Seed, gradient, lerp, stars, step};

/// Five heights of ground, then the air.
const WORLDS: [[u32; 6]; 6] = [
    [0x0b2a5c, 0x1c5c99, 0xc9b98a, 0x4d7a3d, 0xe9ece6, 0x7fb8ff],
    [0x4a1f14, 0x9a4a2a, 0xc97f4c, 0xe0ab76, 0xf3dcb9, 0xffb98a],
    [0x233f63, 0x5f8fb4, 0x9fc7dc, 0xdceef4, 0xffffff, 0xb9e6ff],
    [0x14331f, 0x2f6a3a, 0x7aa04c, 0xc4c178, 0xf2efce, 0x9cffc9],
    [0x3b2a4f, 0x7f5a7a, 0xcb9b86, 0xe9cfa4, 0xf8ecd6, 0xffd8b0],
    [0x2b0f10, 0x6e231a, 0xa84b2c, 0xd08a55, 0xe8c39a, 0xff9a70],
];

pub(super) fn paint(seed: Seed, width: u32, height: u32) -> RgbImage {
    let colours = seed.pick(1, &WORLDS).map(Colour::hex);
    let (ground, air) = (&colours[..5], colours[5]);
    let (w, h) = (width as f32, height as f32);
    let radius = seed.range(2, 0.3, 0.42) * h;
    let centre = (seed.range(3, 0.36, 0.64) * w, seed.range(4, 0.45, 0.55) * h);
    let angle = seed.range(5, -2.6, -0.5);
    let sun = (angle.cos() * 0.8, angle.sin() * 0.8, 0.6);
    let banded = seed.fork(6).cell(0, 0) < 0.35;
    let ringed = seed.fork(7).cell(0, 0) < 0.4;
    let tilt = seed.range(8, -0.5, 0.5);

    RgbImage::from_fn(width, height, |column, row| {
        let (x, y) = (
            (column as f32 - centre.0) / radius,
            (row as f32 - centre.1) / radius,
        );
        let reach = (x * x + y * y).sqrt();
        let dust = seed
            .fork(20)
            .cloud(column as f32 / w * 4.0, row as f32 / h * 3.0, 4);
        let mut colour = Colour::hex(0x05070f).plus(air, (dust - 0.4).max(0.0) * 0.16);
        colour = colour.plus(
            Colour::WHITE,
            stars(seed.fork(21), column as f32, row as f32, 19.0),
        );

        if reach < 1.0 {
            let z = (1.0 - x * x - y * y).sqrt();
            let light = (x * sun.0 + y * sun.1 + z * sun.2).max(0.0);
            // Looked at on the ball: longitude and latitude of the tilted planet.
            let (u, v) = (x * tilt.cos() + y * tilt.sin(), y * tilt.cos() - x * tilt.sin());
            let (longitude, latitude) = (u.atan2(z) * 2.2, v.asin() * 2.2);
            let heights = seed.fork(30);
            let height = if banded {
                let wave = heights.cloud(longitude * 1.3, latitude * 3.0, 5) - 0.5;
                heights.fork(1).cloud(0.5, latitude * 4.5 + wave * 1.6, 4) * 1.3 - 0.15 + wave * 0.2
            } else {
                let bend = heights.fork(2).cloud(longitude * 2.0, latitude * 2.0, 3);
                (heights.cloud(longitude * 1.6 + bend, latitude * 1.6 - bend, 7) - 0.25) * 1.9
            };
            let clouds = step(
                0.5,
                0.78,
                seed.fork(31).cloud(longitude * 2.4 + 9.0, latitude * 4.4, 6),
            );
            let body =
                gradient(ground, height).toward(Colour::WHITE, if banded { 0.0 } else { clouds * 0.8 });
            let rim = (1.0 - z).powi(3);
            let shade = lerp(0.015, 1.15, step(-0.05, 0.95, light));
            colour = body.times(shade).plus(air, rim * (light * 0.9 + 0.04));
        } else {
            let towards_sun = ((x * sun.0 + y * sun.1) / reach + 0.55).max(0.0);
            colour = colour.plus(air, (-(reach - 1.0) * 22.0).exp() * towards_sun * 0.55);
        }
        if ringed {
            let (u, v) = (
                x * tilt.cos() + y * tilt.sin(),
                (y * tilt.cos() - x * tilt.sin()) * 4.2,
            );
            let out = (u * u + v * v).sqrt();
            let behind = reach < 1.0 && v < 0.0;
            if (1.3..2.15).contains(&out) && !behind {
                let lanes = seed.fork(40).cloud(out * 26.0, 0.5, 5);
                let edge = step(1.3, 1.36, out) * (1.0 - step(2.05, 2.15, out));
                let shadowed = if (-sun.0 * u - sun.1 * y) > 0.9 && y.abs() < 0.5 {
                    0.35
                } else {
                    1.0
                };
                colour = colour.toward(ground[3].times(shadowed), edge * step(0.28, 0.62, lanes) * 0.82);
            }
        }
        let grain = (seed.fork(50).cell(column.cast_signed(), row.cast_signed()) - 0.5) * 0.02;
        colour.plus(Colour::WHITE, grain).pixel()
    })
}
