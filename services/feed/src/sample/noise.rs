//! Randomness that is a function of its arguments: numbers, smooth noise and colours for the painters.

/// Where a picture's randomness starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seed(u32);

impl Seed {
    pub(super) fn new(number: u32) -> Self {
        Self(mix(number ^ 0x9e37_79b9))
    }

    /// Another source, as random.
    pub(super) fn fork(self, number: u32) -> Self {
        Self(mix(self.0 ^ number.wrapping_mul(0x85eb_ca6b).wrapping_add(1)))
    }

    /// A number between `low` and `high`, the same for the same `number`.
    pub(super) fn range(self, number: u32, low: f32, high: f32) -> f32 {
        low + (high - low) * unit(self.fork(number).0)
    }

    /// One of `choices`.
    pub(super) fn pick<T: Copy>(self, number: u32, choices: &[T]) -> T {
        choices[self.fork(number).0 as usize % choices.len()]
    }

    /// A number in 0..1 for a cell of a grid.
    pub(super) fn cell(self, x: i32, y: i32) -> f32 {
        unit(hash(self.0, x, y))
    }

    /// Smooth noise in 0..1, about one hill for each unit of length.
    pub(super) fn smooth(self, x: f32, y: f32) -> f32 {
        let (column, row) = (x.floor(), y.floor());
        let (u, v) = (ease(x - column), ease(y - row));
        let (column, row) = (column as i32, row as i32);
        let top = lerp(self.cell(column, row), self.cell(column + 1, row), u);
        let bottom = lerp(self.cell(column, row + 1), self.cell(column + 1, row + 1), u);
        lerp(top, bottom, v)
    }

    /// Smooth noise with finer and fainter noise on top, in 0..1 around one half.
    pub(super) fn cloud(self, x: f32, y: f32, octaves: u32) -> f32 {
        let (mut sum, mut weight, mut whole, mut scale) = (0.0, 0.5, 0.0, 1.0);
        for octave in 0..octaves {
            sum += weight * Self(self.0.wrapping_add(octave)).smooth(x * scale, y * scale);
            whole += weight;
            weight *= 0.5;
            scale *= 2.03;
        }
        sum / whole
    }
}

fn hash(seed: u32, x: i32, y: i32) -> u32 {
    mix(seed
        ^ x.cast_unsigned().wrapping_mul(0x27d4_eb2d)
        ^ y.cast_unsigned().wrapping_mul(0x1656_67b1).rotate_left(15))
}

fn mix(mut bits: u32) -> u32 {
    bits = (bits ^ (bits >> 16)).wrapping_mul(0x7feb_352d);
    bits = (bits ^ (bits >> 15)).wrapping_mul(0x846c_a68b);
    bits ^ (bits >> 16)
}

fn unit(bits: u32) -> f32 {
    (bits >> 8) as f32 / 16_777_216.0
}

/// Between `a` and `b`.
pub(super) fn lerp(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// From 0 to 1 with a gentle start and end.
pub(super) fn ease(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

/// 0 below `low`, 1 above `high`, eased in between.
pub(super) fn step(low: f32, high: f32, value: f32) -> f32 {
    ease(((value - low) / (high - low)).clamp(0.0, 1.0))
}

/// A colour in linear steps of 0..1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Colour(pub(super) [f32; 3]);

impl Colour {
    pub(super) const WHITE: Self = Self([1.0; 3]);

    /// From 0xRRGGBB.
    pub(super) fn hex(bits: u32) -> Self {
        let [_, red, green, blue] = bits.to_be_bytes();
        Self([red, green, blue].map(|channel| f32::from(channel) / 255.0))
    }

    pub(super) fn toward(self, other: Self, t: f32) -> Self {
        Self(std::array::from_fn(|channel| {
            lerp(self.0[channel], other.0[channel], t)
        }))
    }

    pub(super) fn plus(self, other: Self, amount: f32) -> Self {
        Self(std::array::from_fn(|channel| {
            self.0[channel] + other.0[channel] * amount
        }))
    }

    pub(super) fn times(self, factor: f32) -> Self {
        Self(self.0.map(|channel| channel * factor))
    }

    pub(super) fn pixel(self) -> image::Rgb<u8> {
        image::Rgb(
            self.0
                .map(|channel| (channel.clamp(0.0, 1.0) * 255.0 + 0.5) as u8),
        )
    }
}

/// The colour at `t` in 0..1 along evenly spaced stops.
pub(super) fn gradient(stops: &[Colour], t: f32) -> Colour {
    let last = stops.len() - 1;
    let along = t.clamp(0.0, 1.0) * last as f32;
    let stop = (along as usize).min(last.saturating_sub(1));
    let rest = along - stop as f32;
    stops[stop].toward(stops[(stop + 1).min(last)], rest)
}

/// The light of stars at a pixel: a few in each cell of a grid, with a small glow.
pub(super) fn stars(seed: Seed, x: f32, y: f32, spacing: f32) -> f32 {
    let (column, row) = ((x / spacing).floor(), (y / spacing).floor());
    let cell = (column as i32, row as i32);
    let place = |fork| seed.fork(fork).cell(cell.0, cell.1);
    let brightness = place(0).powi(6);
    let (dx, dy) = (
        x - (column + 0.15 + 0.7 * place(1)) * spacing,
        y - (row + 0.15 + 0.7 * place(2)) * spacing,
    );
    let distance = dx * dx + dy * dy;
    brightness * 2.2 / (1.0 + distance * 0.9 / (0.4 + brightness)).powi(2)
}
