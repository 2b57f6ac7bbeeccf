//! Clouds above the sea.

use image::RgbImage;

use super::noise::{Colour, Seed, ease, lerp, step};

/// Sky above, sky at the horizon, cloud lit, cloud in shade, sea, sun.
const MOODS: [[u32; 6]; 6] = [
    [0x2a4f8f, 0xf8c48c, 0xffe3c2, 0x8a6f86, 0x1c3550, 0xfff0c8],
    [0x3f84cc, 0xdbedf7, 0xffffff, 0x9fb2c4, 0x1f5a78, 0xfffdf0],
    [0x3a2a5c, 0xf07a5a, 0xffb48a, 0x5c3f60, 0x242540, 0xffe0a0],
    [0x6a7a8c, 0xd6d6d0, 0xeeece6, 0x6f7780, 0x36464e, 0xfff4d8],
    [0x1f6f8c, 0xf6e9c6, 0xfff8e8, 0xa0aea6, 0x145560, 0xfff6cc],
    [0x102548, 0xd88f6a, 0xf2bf98, 0x4a4a66, 0x0e1d33, 0xffd49a],
];

pub(super) fn paint(seed: Seed, width: u32, height: u32) -> RgbImage {
    let [zenith, low, lit, shaded, sea, light] = seed.pick(1, &MOODS).map(Colour::hex);
    let (w, h) = (width as f32, height as f32);
    let horizon = seed.range(2, 0.56, 0.68) * h;
    let sun = (
        seed.range(3, 0.25, 0.75) * w,
        horizon - seed.range(4, 0.05, 0.3) * h,
    );
    let cover = seed.range(5, 0.44, 0.54);
    let size = 0.024 * h;

    RgbImage::from_fn(width, height, |column, row| {
        let (x, y) = (column as f32, row as f32);
        let grain = (seed.fork(30).cell(column.cast_signed(), row.cast_signed()) - 0.5) * 0.02;
        let colour = if y < horizon {
            let up = (horizon - y) / horizon;
            let distance = ((x - sun.0).powi(2) + (y - sun.1).powi(2)).sqrt();
            let mut sky = low.toward(zenith, up.powf(0.75));
            sky = sky.plus(light, (-distance / (0.2 * h)).exp() * 0.6);
            sky = sky.toward(light, 1.0 - step(size - 1.5, size + 1.5, distance));
            // The layer of clouds is flat: farther away it is flatter and finer.
            let depth = 1.0 / (up + 0.09);
            let place = ((x - w / 2.0) / h * depth * 1.5, depth * 2.6);
            let thick = seed.fork(10).cloud(place.0, place.1, 7);
            let behind = seed
                .fork(10)
                .cloud(place.0 + (sun.0 - x) / w * 0.25, place.1 - 0.12, 4);
            let amount = step(cover, cover + 0.2, thick) * ease((up * 7.0).min(1.0));
            let shine = ((behind - thick) * 4.0 + 0.62).clamp(0.0, 1.0);
            let rim = (-distance / (0.3 * h)).exp() * 0.35;
            sky.toward(shaded.toward(lit, shine).plus(light, rim), amount * 0.94)
        } else {
            let down = (y - horizon) / (h - horizon);
            let near = 1.0 / (down + 0.03);
            let (u, v) = ((x - w / 2.0) / h * near * 2.4, near * 5.5);
            let waves = seed.fork(20).cloud(u * 1.5, v * 3.6, 5) - 0.5;
            let ripples = seed.fork(21).cloud(x / 21.0, y / lerp(2.2, 9.0, down), 3) - 0.5;
            let water = low
                .toward(sea, (down * 1.6 + 0.32).min(1.0))
                .times(1.0 + waves * 0.5 + ripples * 0.42 * (0.3 + down));
            let spread = (0.02 + 0.16 * down) * w;
            let path = (-((x - sun.0 + ripples * 60.0 * down) / spread).powi(2)).exp();
            let sparkle = step(0.02, 0.26, waves * 0.8 + ripples * 0.7 + 0.1);
            water.plus(light, path * (0.18 + 0.75 * sparkle) * lerp(0.95, 0.5, down))
        };
        colour.plus(Colour::WHITE, grain).pixel()
    })
}
