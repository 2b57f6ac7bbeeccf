//! Glowing gas.

use image::RgbImage;

use super::noise::{Colour, Seed, gradient, stars, step};

const PALETTES: [[u32; 5]; 6] = [
    [0x050714, 0x2a1240, 0x8f2a5e, 0xf07f72, 0xffe9c8],
    [0x030b14, 0x0b3347, 0x1f7f86, 0x7fd0b5, 0xf6fbe0],
    [0x080610, 0x3a1d1a, 0x964a1e, 0xe9a245, 0xfff1c4],
    [0x030616, 0x142a6b, 0x3f6fd0, 0x98c6ff, 0xffffff],
    [0x060610, 0x232148, 0x6a4a9c, 0xcf8fd0, 0xffe6f0],
    [0x04080c, 0x1a3a2c, 0x567f4a, 0xd0b060, 0xfff0d8],
];

pub(super) fn paint(seed: Seed, width: u32, height: u32) -> RgbImage {
    let palette = seed.pick(1, &PALETTES).map(Colour::hex);
    let second = seed.fork(77).pick(1, &PALETTES).map(Colour::hex);
    let scale = seed.range(2, 2.2, 3.6) / height as f32;
    let core = (
        seed.range(3, 0.3, 0.7) * width as f32 * scale,
        seed.range(4, 0.35, 0.65) * height as f32 * scale,
    );

    RgbImage::from_fn(width, height, |column, row| {
        let (x, y) = (column as f32 * scale, row as f32 * scale);
        // Noise that is moved about by noise looks like gas that was.
        let first = (
            seed.fork(10).cloud(x, y, 4) - 0.5,
            seed.fork(11).cloud(x, y, 4) - 0.5,
        );
        let bent = (x + 2.4 * first.0, y + 2.4 * first.1);
        let gas = seed.fork(12).cloud(bent.0 * 1.3, bent.1 * 1.3, 6);
        let tint = seed.fork(13).cloud(bent.0 * 0.7, bent.1 * 0.7, 3);
        let dust = step(
            0.48,
            0.7,
            seed.fork(14)
                .cloud(x * 1.7 + first.1 * 3.0, y * 1.7 - first.0 * 3.0, 6),
        );

        let distance = ((x - core.0).powi(2) + (y - core.1).powi(2)).sqrt();
        let swell = (-distance * 0.85).exp();
        let glow = step(0.3, 0.86, gas * (0.62 + 0.75 * swell)) * (1.0 - 0.62 * dust);
        let mut colour =
            gradient(&palette, glow).toward(gradient(&second, glow), step(0.45, 0.65, tint) * 0.6);
        colour = colour.plus(palette[3], swell.powi(3) * 0.3);
        let field = stars(seed.fork(20), column as f32, row as f32, 17.0)
            + 1.7 * stars(seed.fork(21), column as f32, row as f32, 71.0);
        colour = colour.plus(Colour::WHITE.toward(palette[4], 0.5), field * (1.0 - 0.5 * dust));
        let grain = (seed.fork(30).cell(column.cast_signed(), row.cast_signed()) - 0.5) * 0.02;
        colour.plus(Colour::WHITE, grain).pixel()
    })
}
