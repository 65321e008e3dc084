//! What is told of a run: JSON with all of it, Markdown with what it says, and figures.

pub mod json;
pub mod markdown;
pub mod plot;
pub mod svg;
pub mod table;

use std::path::Path;

use crate::Result;

/// Writes files into a folder, which is made if it is not there.
pub fn write(folder: &Path, files: &[(&str, String)]) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for (name, text) in files {
        let file = folder.join(name);
        std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        eprintln!("written: {}", file.display());
    }
    Ok(())
}
