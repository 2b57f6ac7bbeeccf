//! The built-in catalogue: pictures that this program paints itself, so that a demo needs no network.
//!
//! Picture `n` is always the same picture. It is painted when it is asked for and kept nowhere, so the catalogue costs
//! no memory and no disk.

mod contours;
mod fractal;
mod mountains;
mod nebula;
mod noise;
mod planet;
mod seascape;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, ImageResult, RgbImage};

use crate::entry::Entry;
use noise::Seed;

/// How many pictures there are.
pub const COUNT: usize = 60;
/// Whom to name for them.
const CREDIT: &str = "Painted by Fieldline";

/// Width and height, by turns.
const SIZES: [(u32, u32); 10] = [
    (1280, 800),
    (1024, 768),
    (1600, 900),
    (960, 640),
    (1200, 800),
    (800, 600),
    (1440, 900),
    (1000, 1000),
    (1280, 720),
    (1600, 1000),
];

/// A kind of picture: how it is painted, and what its ten pictures are called.
struct Genre {
    name: &'static str,
    paint: fn(Seed, u32, u32) -> RgbImage,
    encoding: Encoding,
    titles: [&'static str; 10],
    description: &'static str,
}

#[derive(Clone, Copy)]
enum Encoding {
    /// With a quality.
    Jpeg(u8),
    Png,
}

const GENRES: [Genre; 6] = [
    Genre {
        name: "mountains",
        paint: mountains::paint,
        encoding: Encoding::Jpeg(88),
        titles: [
            "First light on the crest",
            "Foothills in late summer",
            "Seven ranges in haze",
            "The long valley",
            "Rain clearing in the west",
            "Cold morning, far peaks",
            "A clear day at the pass",
            "Moonlight on the high road",
            "Fog in the lowlands",
            "The violet hour",
        ],
        description: "Mountain ranges one behind another, paler with distance, under a sky with sun or moon.",
    },
    Genre {
        name: "planet",
        paint: planet::paint,
        encoding: Encoding::Jpeg(88),
        titles: [
            "A ringed world",
            "Desert planet with thin air",
            "Rings over red country",
            "The green planet",
            "Old red world, first quarter",
            "Bands of an ice giant",
            "Green world, wide rings",
            "Dust season",
            "Cloud breaks over the dunes",
            "Ice world and its rings",
        ],
        description: "An imagined planet lit by one sun, with its atmosphere at the rim and stars behind.",
    },
    Genre {
        name: "nebula",
        paint: nebula::paint,
        encoding: Encoding::Jpeg(88),
        titles: [
            "Dust lanes, wide field",
            "The lantern nebula",
            "Ember field",
            "The amethyst cloud",
            "Pillars in teal",
            "The folded curtain",
            "The rose cloud",
            "Nursery of blue stars",
            "The amber veil",
            "Remnant of a quiet star",
        ],
        description: "Glowing gas folded into itself, with dust lanes and a field of stars.",
    },
    Genre {
        name: "contours",
        paint: contours::paint,
        encoding: Encoding::Png,
        titles: [
            "Sheet 11: the eastern islands",
            "Sheet 12: upper basin",
            "Sheet 13: three lakes",
            "Sheet 14: the plateau",
            "Sheet 15: coast and shoals",
            "Sheet 16: the saddle",
            "Sheet 17: river mouths",
            "Sheet 18: broken hills",
            "Sheet 19: inner fjords",
            "Sheet 20: the great bend",
        ],
        description: "A contour map of imagined terrain: heights in tints, a line every fifty metres, seas by depth.",
    },
    Genre {
        name: "fractal",
        paint: fractal::paint,
        encoding: Encoding::Jpeg(78),
        titles: [
            "Julia set in green and copper",
            "Julia set: the dragon",
            "Julia set: eyes in amber",
            "Julia set: the bridge",
            "Julia set: spirals in gold",
            "Julia set: frost at night",
            "Julia set: lightning",
            "Julia set: galaxies",
            "Julia set: lace",
            "Julia set: coral",
        ],
        description: "A Julia set of a quadratic polynomial, coloured by how slowly each point escapes.",
    },
    Genre {
        name: "seascape",
        paint: seascape::paint,
        encoding: Encoding::Jpeg(88),
        titles: [
            "Two hours before dusk",
            "Harbour light, no wind",
            "Grey sea, winter sun",
            "Summer haze",
            "Shallow water, noon",
            "Red sky, low sun",
            "After the storm",
            "Cirrus at noon",
            "Clouds coming in",
            "Last light",
        ],
        description: "Clouds in perspective above a sea that carries the sun's path.",
    },
];

/// What the catalogue says of its pictures; links are served by the service under [`file_name`].
pub fn entries() -> Vec<Entry> {
    (0..COUNT)
        .map(|index| {
            let (genre, number) = of(index);
            let (width, height) = SIZES[number];
            Entry {
                native_id: file_name(index),
                title: genre.titles[number].to_owned(),
                description: format!("{} {width} × {height} pixels.", genre.description),
                link: None,
                credit: Some(CREDIT.to_owned()),
                created_at: None,
            }
        })
        .collect()
}

/// The name a picture is served under.
pub fn file_name(index: usize) -> String {
    let (genre, number) = of(index);
    let extension = match genre.encoding {
        Encoding::Jpeg(_) => "jpg",
        Encoding::Png => "png",
    };
    format!("{}-{:02}.{extension}", genre.name, number + 1)
}

/// The picture with this name.
pub fn index(file_name: &str) -> Option<usize> {
    (0..COUNT).find(|index| self::file_name(*index) == file_name)
}

/// The media type of a picture.
pub fn media_type(index: usize) -> &'static str {
    match of(index).0.encoding {
        Encoding::Jpeg(_) => "image/jpeg",
        Encoding::Png => "image/png",
    }
}

/// Paints a picture and encodes it. Blocks for a part of a second.
pub fn encode(index: usize) -> ImageResult<Vec<u8>> {
    let (genre, number) = of(index);
    let (width, height) = SIZES[number];
    let picture = (genre.paint)(Seed::new(u32::try_from(index).unwrap_or_default()), width, height);
    let mut bytes = Vec::with_capacity(256 * 1024);
    match genre.encoding {
        Encoding::Jpeg(quality) => JpegEncoder::new_with_quality(&mut bytes, quality).encode(
            picture.as_raw(),
            width,
            height,
            ExtendedColorType::Rgb8,
        )?,
        Encoding::Png => {
            PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::NoFilter)
                .write_image(picture.as_raw(), width, height, ExtendedColorType::Rgb8)?
        }
    }
    Ok(bytes)
}

/// Genres take turns, so that neighbours in the catalogue differ.
fn of(index: usize) -> (&'static Genre, usize) {
    (&GENRES[index % GENRES.len()], index / GENRES.len() % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_pictures() {
        for number in 0..COUNT {
            assert_eq!(index(&file_name(number)), Some(number));
        }
        assert_eq!(index("../mountains-01.jpg"), None);
    }

    #[test]
    fn a_picture_is_always_the_same() {
        for number in [5, 35] {
            assert!(encode(number).unwrap() == encode(number).unwrap());
        }
        assert!(encode(5).unwrap() != encode(11).unwrap());
    }

    #[test]
    fn pictures_have_the_size_of_real_ones() {
        // Two here, which take seconds unoptimised; the whole catalogue where that is asked for.
        let numbers: Vec<usize> = match option_env!("FIELDLINE_EVERY_SAMPLE") {
            Some(_) => (0..COUNT).collect(),
            None => (30..36).step_by(3).collect(),
        };
        for number in numbers {
            let bytes = encode(number).unwrap();
            let name = file_name(number);
            assert!(
                (40_000..=400_000).contains(&bytes.len()),
                "{name} has {} bytes",
                bytes.len()
            );
            let (width, height) = SIZES[of(number).1];
            let picture = image::load_from_memory(&bytes).unwrap();
            assert_eq!((picture.width(), picture.height()), (width, height), "{name}");
        }
    }
}
