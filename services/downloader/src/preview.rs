//! Makes the small picture that edges see before anybody asks for the asset.
//!
//! A picture is a stranger's program for a decoder, so decoding is bounded: by the size that its header declares before
//! anything is allocated, by memory, and by a deadline that its source keeps. Every failure means no preview; the asset
//! is downloaded all the same.

use std::io::{self, BufRead, Seek, SeekFrom};

use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage,
};

/// The longer side of a preview.
pub const MAX_SIDE: u32 = 160;
/// The most bytes a preview has.
pub const MAX_BYTES: usize = 6 * 1024;
/// What previews are.
pub const MEDIA_TYPE: &str = "image/jpeg";

/// What decoding may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The most pixels a picture may declare.
    pub pixels: u64,
    /// The most bytes the decoder may allocate.
    pub memory: u64,
}

/// A small picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Its width in pixels.
    pub width: u32,
    /// Its height in pixels.
    pub height: u32,
    /// JPEG.
    pub picture: Vec<u8>,
}

/// Why there is no preview.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("it declares {width}×{height} pixels; {limit} are the most that are decoded")]
    TooManyPixels { width: u32, height: u32, limit: u64 },
    #[error("decoding it would take {needed} bytes; {limit} are the most")]
    TooMuchMemory { needed: u64, limit: u64 },
    #[error("it cannot be decoded")]
    Decode(#[source] ImageError),
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("the small picture cannot be encoded")]
    Encode(#[source] ImageError),
    #[error("the small picture stays above {MAX_BYTES} bytes")]
    StillLarge,
    #[error("decoding panicked")]
    Panicked,
    #[error("decoding took longer than {0:?}")]
    TooSlow(std::time::Duration),
}

/// The decoder for a media type; none where previews are not made (an SVG is a program, not a picture).
pub fn format(media_type: &str) -> Option<ImageFormat> {
    match media_type {
        "image/jpeg" => Some(ImageFormat::Jpeg),
        "image/png" => Some(ImageFormat::Png),
        "image/gif" => Some(ImageFormat::Gif),
        "image/webp" => Some(ImageFormat::WebP),
        _ => None,
    }
}

/// Decodes a picture within `bounds` and makes it small. Blocks.
pub fn make(mut source: impl BufRead + Seek, format: ImageFormat, bounds: Bounds) -> Result<Preview, Error> {
    // A progressive JPEG keeps all its coefficients, two bytes for each sample, beside the pixels.
    let factor = match format {
        ImageFormat::Jpeg if progressive(&mut source).map_err(Error::Read)? => 3,
        _ => 1,
    };
    source.seek(SeekFrom::Start(0)).map_err(Error::Read)?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(bounds.memory);
    let mut reader = ImageReader::with_format(source, format);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(Error::Decode)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > bounds.pixels {
        return Err(Error::TooManyPixels {
            width,
            height,
            limit: bounds.pixels,
        });
    }
    let needed = decoder.total_bytes().saturating_mul(factor);
    if needed > bounds.memory {
        return Err(Error::TooMuchMemory {
            needed,
            limit: bounds.memory,
        });
    }
    limits.max_alloc = Some(bounds.memory - decoder.total_bytes());
    decoder.set_limits(limits).map_err(Error::Decode)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let picture = DynamicImage::from_decoder(decoder).map_err(Error::Decode)?;
    let mut small = shrink(&picture, MAX_SIDE);
    drop(picture);
    small.apply_orientation(orientation);
    encode(&small)
}

/// Never enlarges, and keeps at least one pixel on each side.
fn shrink(picture: &DynamicImage, side: u32) -> DynamicImage {
    if picture.width() <= side && picture.height() <= side {
        return picture.clone();
    }
    picture.thumbnail(side, side)
}

/// JPEG of the best quality that fits.
fn encode(small: &DynamicImage) -> Result<Preview, Error> {
    for side in [MAX_SIDE, 112, 80] {
        let flat = flatten(&shrink(small, side));
        for quality in [80, 65, 50, 35] {
            let mut picture = Vec::with_capacity(MAX_BYTES);
            JpegEncoder::new_with_quality(&mut picture, quality)
                .encode(
                    flat.as_raw(),
                    flat.width(),
                    flat.height(),
                    ExtendedColorType::Rgb8,
                )
                .map_err(Error::Encode)?;
            if picture.len() <= MAX_BYTES {
                return Ok(Preview {
                    width: flat.width(),
                    height: flat.height(),
                    picture,
                });
            }
        }
    }
    Err(Error::StillLarge)
}

/// What is transparent lies on white.
fn flatten(picture: &DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.to_rgb8();
    }
    let source = picture.to_rgba8();
    RgbImage::from_fn(source.width(), source.height(), |x, y| {
        let [r, g, b, alpha] = source.get_pixel(x, y).0;
        let over = |channel: u8| {
            let mixed = (u16::from(channel) * u16::from(alpha) + 255 * (255 - u16::from(alpha))) / 255;
            u8::try_from(mixed).unwrap_or(u8::MAX)
        };
        image::Rgb([over(r), over(g), over(b)])
    })
}

/// Whether a JPEG's frame header says progressive. A file that is no JPEG is left to the decoder to refuse.
fn progressive(source: &mut (impl BufRead + Seek)) -> io::Result<bool> {
    let mut marker = [0; 4];
    source.seek(SeekFrom::Start(2))?;
    // A sane file has some tens of segments before its frame.
    for _ in 0..1000 {
        match source.read_exact(&mut marker) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            other => other?,
        }
        match marker {
            [0xff, 0xff, ..] => {
                source.seek(SeekFrom::Current(-3))?;
            }
            [0xff, 0xc2 | 0xc6 | 0xca | 0xce, ..] => return Ok(true),
            [0xff, 0xc0 | 0xc1 | 0xc3 | 0xda, ..] => return Ok(false),
            [0xff, _, high, low] => {
                let length = i64::from(u16::from_be_bytes([high, low]));
                source.seek(SeekFrom::Current(length - 2))?;
            }
            // Not where segments should be: assume the dearer kind.
            _ => return Ok(true),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        pixels: 4_000_000,
        memory: 16 << 20,
    };

    fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn busy(width: u32, height: u32) -> DynamicImage {
        DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, |x, y| {
            let noise = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)).wrapping_mul(2_246_822_519);
            let [a, b, c, _] = noise.to_be_bytes();
            image::Rgb([a, b, c])
        }))
    }

    #[test]
    fn preview_is_small_whatever_the_picture() {
        for format in [
            ImageFormat::Jpeg,
            ImageFormat::Png,
            ImageFormat::Gif,
            ImageFormat::WebP,
        ] {
            let bytes = encoded(&busy(800, 500), format);
            let preview = make(Cursor::new(bytes), format, BOUNDS).unwrap();
            assert!(
                preview.picture.len() <= MAX_BYTES,
                "{format:?}: {}",
                preview.picture.len()
            );
            assert!(preview.width.max(preview.height) <= MAX_SIDE);
            assert_eq!(preview.width * 5 / 8, preview.height);
        }
    }

    #[test]
    fn small_pictures_are_not_enlarged_and_lie_on_white() {
        let clear = DynamicImage::new_rgba8(20, 10);
        let preview = make(
            Cursor::new(encoded(&clear, ImageFormat::Png)),
            ImageFormat::Png,
            BOUNDS,
        )
        .unwrap();
        assert_eq!((preview.width, preview.height), (20, 10));
        let back = image::load_from_memory(&preview.picture).unwrap().to_rgb8();
        assert!(
            back.pixels()
                .all(|pixel| pixel.0.iter().all(|channel| *channel > 250))
        );
    }

    #[test]
    fn bomb_is_refused_by_its_header() {
        // 30,000 × 30,000 pixels of nothing: a few hundred bytes here, 2.7 GB decoded.
        let mut bomb = encoded(&DynamicImage::new_rgb8(8, 8), ImageFormat::Png);
        bomb[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
        let crc = crc32(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&crc.to_be_bytes());
        let error = make(Cursor::new(bomb), ImageFormat::Png, BOUNDS).unwrap_err();
        assert!(
            matches!(
                error,
                Error::TooManyPixels {
                    width: 30_000,
                    height: 30_000,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn memory_is_bounded_for_pictures_within_the_pixels() {
        let bytes = encoded(&DynamicImage::new_rgba8(1000, 1000), ImageFormat::Png);
        let tight = Bounds {
            memory: 3_000_000,
            ..BOUNDS
        };
        let error = make(Cursor::new(bytes), ImageFormat::Png, tight).unwrap_err();
        assert!(
            matches!(error, Error::TooMuchMemory { .. } | Error::Decode(_)),
            "{error}"
        );
    }

    #[test]
    fn rubbish_is_an_error() {
        for format in [
            ImageFormat::Jpeg,
            ImageFormat::Png,
            ImageFormat::Gif,
            ImageFormat::WebP,
        ] {
            for rubbish in [
                &b""[..],
                b"\xff\xd8\xff",
                b"\x89PNG\r\n\x1a\n",
                b"GIF89a",
                b"RIFF\0\0\0\0WEBP",
                &[7; 999],
            ] {
                assert!(make(Cursor::new(rubbish.to_vec()), format, BOUNDS).is_err());
            }
        }
    }

    #[test]
    fn picture_stands_as_its_orientation_says() {
        let mut jpeg = encoded(&busy(100, 50), ImageFormat::Jpeg);
        let exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
        let segment: Vec<u8> = [&[0xff, 0xe1][..], &length, exif].concat();
        jpeg.splice(2..2, segment);
        let preview = make(Cursor::new(jpeg), ImageFormat::Jpeg, BOUNDS).unwrap();
        assert_eq!((preview.width, preview.height), (50, 100));
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let step = |crc: u32, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            }
        };
        !bytes
            .iter()
            .fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
    }
}
