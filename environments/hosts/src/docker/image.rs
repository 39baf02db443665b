//! The image that containers are made of.
//!
//! Either the user's own, used as it is, or one that is built from `environments/docker/Dockerfile`, once for each base
//! image: a built one is found again by its label, a hash of the Dockerfile and the base's content. It has no tag, so that
//! nothing appears among the user's images by name; `splitbrain heal --images` removes it.
//!
//! Caveats: a base that had to be pulled stays, as after `docker pull`. The build uses the machine's own network, since a
//! private one may reach no mirror.
use super::engine::{Engine, explain, is_missing};
use super::mark::{IMAGE, filter};
use anyhow::{Context, Result, anyhow, bail};
use bollard::Docker;
use bollard::body_full;
use bollard::query_parameters::{
    BuildImageOptions, BuildImageOptionsBuilder, CreateImageOptions, CreateImageOptionsBuilder, ListImagesOptions,
    ListImagesOptionsBuilder,
};
use futures::StreamExt;
use sha2::{Digest, Sha256};
use splitbrain_core::plan;
use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

const DOCKERFILE: &str = include_str!("../../../docker/Dockerfile");
const BASE: &str = "debian:bookworm-slim";
/// To look for an image.
const LOOK: Duration = Duration::from_secs(10);
/// To pull or build one, which may load packages over a slow line.
const MAKE: Duration = Duration::from_secs(600);
/// What a failed build's error repeats of its output.
const LAST_LINES: usize = 12;

/// The id of an image to make containers of; built or pulled if need be.
pub(super) fn provide(engine: &Engine, settings: &plan::Docker) -> Result<String> {
    match (&settings.image, &settings.base_image) {
        (Some(_), Some(_)) => bail!("give an image or a base image for the containers, not both"),
        (Some(image), None) => {
            let remedy =
                "give --image the name of one that is there (`docker images`), or leave it out and have one built";
            there_or_pulled(engine, image, remedy)
        }
        (None, base) => {
            let base = base.as_deref().unwrap_or(BASE);
            let remedy =
                "no registry? build a base with `environments/docker/base-image NAME`, then give `--base-image NAME`";
            let id = there_or_pulled(engine, base, remedy)?;
            let mark = mark(&id);
            match built(engine, &mark)? {
                Some(image) => Ok(image),
                None => build(engine, base, &mark),
            }
        }
    }
}

/// Whether [`provide`] would find one, without making any: for [`super::doctor`].
pub(super) fn at_hand(engine: &Engine, settings: &plan::Docker) -> Result<bool> {
    match &settings.image {
        Some(image) => Ok(inspect(engine, image)?.is_some()),
        None => match inspect(engine, settings.base_image.as_deref().unwrap_or(BASE))? {
            Some(base) => Ok(built(engine, &mark(&base))?.is_some()),
            None => Ok(false),
        },
    }
}

/// Of the Dockerfile and the base image's content.
fn mark(base_id: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(DOCKERFILE);
    hash.update(base_id);
    hash.finalize().iter().take(16).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn there_or_pulled(engine: &Engine, name: &str, remedy: &str) -> Result<String> {
    if let Some(id) = inspect(engine, name)? {
        return Ok(id);
    }
    let (docker, options) = (engine.docker(), pull_options(name));
    let pulled = engine.run(MAKE, async move {
        let mut steps = docker.create_image(Some(options), None, None);
        while let Some(step) = steps.next().await {
            step.map_err(explain)?;
        }
        Ok(())
    });
    pulled.map_err(|error| {
        anyhow!("the image {name} is not on the docker engine and could not be pulled ({error:#}): {remedy}")
    })?;
    inspect(engine, name)?.ok_or_else(|| anyhow!("the image {name} was pulled and is not there: {remedy}"))
}

/// What stands for this name; without a tag, the engine would pull all there are.
fn pull_options(name: &str) -> CreateImageOptions {
    let last = name.rsplit('/').next().unwrap_or(name);
    let options = CreateImageOptionsBuilder::default().from_image(name);
    if last.contains([':', '@']) {
        options.build()
    } else {
        options.tag("latest").build()
    }
}

/// The id of the image of this name or id, if it is there. Its machine type must be ours.
fn inspect(engine: &Engine, name: &str) -> Result<Option<String>> {
    let (docker, name) = (engine.docker(), name.to_string());
    engine.run(LOOK, async move {
        match docker.inspect_image(&name).await {
            Ok(image) => {
                let machine = image.architecture.unwrap_or_default();
                if machine != own_machine() {
                    bail!(
                        "the image {name} is for {machine}, and our program for {}",
                        own_machine()
                    );
                }
                Ok(image.id)
            }
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(explain(error).context(format!("failed to look at the image {name}"))),
        }
    })
}

/// As docker calls the machine type that this program was built for.
fn own_machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The newest image with this mark.
fn built(engine: &Engine, mark: &str) -> Result<Option<String>> {
    let (docker, options) = (engine.docker(), listed(&format!("{IMAGE}={mark}")));
    engine.run(LOOK, async move {
        let images = docker.list_images(Some(options)).await.map_err(explain);
        let images = images.context("failed to list the docker engine's images")?;
        Ok(images
            .into_iter()
            .max_by_key(|image| image.created)
            .map(|image| image.id))
    })
}

fn listed(label: &str) -> ListImagesOptions {
    ListImagesOptionsBuilder::default().filters(&filter(label)).build()
}

fn build(engine: &Engine, base: &str, mark: &str) -> Result<String> {
    // Only the first run on a machine comes here, and it may take a while.
    eprintln!("building an image from {base} for the containers; this is done once");
    let (docker, options, context) = (engine.docker(), build_options(base, mark), context()?);
    let outcome = engine.run(MAKE, async move {
        let mut last = VecDeque::new();
        let mut steps = docker.build_image(options, None, Some(body_full(context.into())));
        while let Some(step) = steps.next().await {
            match step {
                Ok(step) => remember(&mut last, &step.stream.unwrap_or_default()),
                Err(error) => return Ok(Some((explain(error), Vec::from(last)))),
            }
        }
        Ok(None)
    });
    if let Some((error, last)) = outcome.with_context(|| format!("failed to build an image from {base}"))? {
        bail!(
            "failed to build an image from {base}: {error:#}; its last words:\n  {}\nremedy: a base of Debian or Ubuntu that reaches \
             its mirror, or one made by `environments/docker/base-image NAME` (then `--base-image NAME`)",
            last.join("\n  ")
        );
    }
    built(engine, mark)?.ok_or_else(|| anyhow!("an image was built from {base} and is not there"))
}

fn build_options(base: &str, mark: &str) -> BuildImageOptions {
    let arguments = HashMap::from([("BASE", base), ("MARK", mark)]);
    BuildImageOptionsBuilder::default()
        .buildargs(&arguments)
        .networkmode("host")
        .rm(true)
        .forcerm(true)
        .build()
}

/// The Dockerfile, as the engine wants it.
fn context() -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(DOCKERFILE.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "Dockerfile", DOCKERFILE.as_bytes())?;
    Ok(tar.into_inner()?)
}

fn remember(last: &mut VecDeque<String>, words: &str) {
    for line in words.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line.to_string());
    }
}

/// Removes the images that were built here and have no name, and what builds that failed have left. One that a container
/// or another image needs stays. Returns what was removed.
pub(super) fn remove(engine: &Engine) -> Result<Vec<String>> {
    let docker = engine.docker();
    engine.run(MAKE, async move {
        let mut removed = Vec::new();
        // Each round may lay bare what the ones before stood upon.
        loop {
            let before = removed.len();
            for id in unnamed(&docker).await? {
                if docker
                    .remove_image(&id, None::<bollard::query_parameters::RemoveImageOptions>, None)
                    .await
                    .is_ok()
                {
                    removed.push(format!("image {}", short(&id)));
                }
            }
            if removed.len() == before {
                return Ok(removed);
            }
        }
    })
}

async fn unnamed(docker: &Docker) -> Result<Vec<String>> {
    let images = docker.list_images(Some(listed(IMAGE))).await.map_err(explain);
    let images = images.context("failed to list the docker engine's images")?;
    // The engine of today gives an empty list, older ones `<none>:<none>`.
    let unnamed = |image: &bollard::models::ImageSummary| image.repo_tags.iter().all(|tag| tag == "<none>:<none>");
    Ok(images.into_iter().filter(unnamed).map(|image| image.id).collect())
}

/// The twelve digits by which docker's own tools call an image.
fn short(id: &str) -> &str {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    digits.get(..12).unwrap_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_means_the_latest() {
        for (name, tag) in [
            ("debian", Some("latest")),
            ("host:5000/debian", Some("latest")),
            ("host:5000/debian:12", None),
            ("debian@sha256:00", None),
        ] {
            assert_eq!(
                pull_options(name).tag.as_deref().filter(|tag| !tag.is_empty()),
                tag,
                "{name}"
            );
        }
    }

    #[test]
    fn the_mark_follows_the_base() {
        assert_eq!(mark("sha256:1"), mark("sha256:1"));
        assert_ne!(mark("sha256:1"), mark("sha256:2"));
        assert!(
            DOCKERFILE.trim_end().ends_with("LABEL splitbrain.image=${MARK}"),
            "the last line makes it whole"
        );
    }
}
