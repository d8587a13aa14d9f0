//! `new`: makes a small working project.

use crate::cli::New;
use crate::error::{Doing, Error, Result};
use crate::exit::Exit;
use crate::{machine, manifest, output, templates};
use std::os::unix::fs::PermissionsExt;

/// Runs the command.
pub fn run(args: New) -> Result<Exit> {
    let shown = args.dir.display().to_string();
    let full = args.dir.canonicalize().or_else(|_| std::path::absolute(&args.dir));
    let full = full.doing(|| format!("find {shown}"))?;
    let name = full.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    manifest::name(&name)
        .map_err(|what| Error::new(Exit::Usage, what).fix("choose another name for the folder"))?;
    if args.dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(
            Error::new(Exit::Failure, format!("{shown} is not empty")).fix("name a new or an empty folder")
        );
    }
    for (file, text) in templates::project(args.template, &name, machine::available()) {
        let path = args.dir.join(file.path);
        let cannot = || format!("write {}", path.display());
        std::fs::create_dir_all(path.parent().unwrap_or(&args.dir)).doing(cannot)?;
        std::fs::write(&path, text).doing(cannot)?;
        if file.executable {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).doing(cannot)?;
        }
        output::line(path.display().to_string())?;
    }
    output::note(format!("try: brooklet deploy {shown}   or: brooklet dev {shown}"));
    Ok(Exit::Success)
}
