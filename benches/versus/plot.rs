//! How long each tool took against what clients felt of it, as a picture.

use std::path::Path;

use plotters::prelude::*;

/// One tool.
#[derive(Debug)]
pub(crate) struct Point {
    /// Its name.
    pub(crate) name: String,
    /// Whether it is evenkeel.
    pub(crate) ours: bool,
    /// Median of its whole runs.
    pub(crate) seconds: f64,
    /// What 99 in 100 requests of clients took at the most, in milliseconds.
    pub(crate) p99_ms: f64,
}

const SIZE: (u32, u32) = (900, 500);
const OURS: RGBColor = RGBColor(0x0b, 0x6e, 0x99);
const OTHERS: RGBColor = RGBColor(0xc2, 0x4d, 0x2c);
/// Between a point and its name, in pixels.
const BESIDE: (i32, i32) = (8, -6);

/// Draws them into an SVG file. Panics when that cannot be written.
pub(crate) fn draw(file: &Path, title: &str, points: &[Point]) {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    paint(&area, title, points).expect("a picture can be written there");
    area.present().expect("a picture can be written there");
}

fn paint<D: DrawingBackend>(
    area: &DrawingArea<D, plotters::coord::Shift>,
    title: &str,
    points: &[Point],
) -> Result<(), DrawingAreaErrorKind<D::ErrorType>> {
    area.fill(&WHITE)?;
    // Room for the names on the right.
    let [seconds, p99] = [|point: &Point| point.seconds * 1.3, |point: &Point| point.p99_ms * 1.15]
        .map(|of| points.iter().map(of).fold(0.1, f64::max));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d(0.0..seconds, 0.0..p99)?;
    chart.configure_mesh().x_desc("whole run, s").y_desc("clients' p99, ms").light_line_style(WHITE).draw()?;
    chart.draw_series(points.iter().map(|point| {
        let color = if point.ours { OURS } else { OTHERS };
        let name = Text::new(point.name.clone(), BESIDE, ("sans-serif", 13).into_font().color(&color));
        EmptyElement::at((point.seconds, point.p99_ms)) + Circle::new((0, 0), 4, color.filled()) + name
    }))?;
    Ok(())
}
