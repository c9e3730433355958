//! An image from one host's Engine to another's. It streams through this side, so little of it is here at a time.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bollard::query_parameters::{ImportImageOptions, TagImageOptions};
use futures_util::StreamExt as _;

use crate::base::error::{Error, Kind, Result};
use crate::provider::docker::{Engine, MAKE_ROOM, OnProgress, SILENCE, has_no_room, words};

/// How long a transfer may take in all.
const TRANSFER: Duration = Duration::from_hours(1);
/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(500);

impl Engine {
    /// Takes over an image from another Engine, under its name. What is there under another name need not travel.
    pub async fn take(&self, from: &Engine, image: &str, on_progress: &mut OnProgress<'_>) -> Result<()> {
        let late = |_| Err(format!("not done within {} s", TRANSFER.as_secs()));
        let taken = tokio::time::timeout(TRANSFER, self.take_once(from, image, on_progress)).await;
        taken.unwrap_or_else(late).map_err(|why| {
            let error = Error::new(Kind::Host, format!("{image} cannot be brought: {why}"));
            error.hint(if has_no_room(&why) { MAKE_ROOM } else { "apply again; everything runs as before" })
        })
    }

    async fn take_once(&self, from: &Engine, image: &str, on_progress: &mut OnProgress<'_>) -> Result<(), String> {
        let (id, layers, bytes) = from.known(image).await?;
        if self.0.inspect_image(&id).await.is_ok() {
            return self.call(&id, image).await;
        }
        let come = Arc::new(AtomicU64::new(0));
        let counter = come.clone();
        let archive = from.0.export_image(image).map(move |part| {
            if let Ok(bytes) = &part {
                counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            part
        });
        let mut said = pin!(self.0.import_image_stream(ImportImageOptions::default(), archive, None));
        let (mut before, mut silent) = (0, Duration::ZERO);
        loop {
            match tokio::time::timeout(LOOK, said.next()).await {
                Ok(None) => break,
                Ok(Some(Ok(said))) => {
                    if let Some(why) = said.error_detail.and_then(|error| error.message) {
                        return Err(why);
                    }
                    silent = Duration::ZERO;
                }
                Ok(Some(Err(error))) => return Err(words(&error)),
                Err(_) => silent += LOOK,
            }
            let now = come.load(Ordering::Relaxed);
            if now != before {
                (before, silent) = (now, Duration::ZERO);
                on_progress(now, bytes.max(now));
            }
            if silent.as_secs() >= SILENCE {
                return Err(format!("nothing has moved for {SILENCE} s"));
            }
        }
        // The end of the stream may be the end of the link; and under this name there could be another image already.
        let (came, theirs, _) = self.known(image).await?;
        // Engines that keep images in different ways call the same image by different ids.
        if came == id || theirs == layers { Ok(()) } else { Err(format!("{came} came in place of {id}")) }
    }

    /// An image's id, its layers and its size.
    async fn known(&self, image: &str) -> Result<(String, Vec<String>, u64), String> {
        let known = self.0.inspect_image(image).await.map_err(|error| words(&error))?;
        let layers = known.root_fs.and_then(|layers| layers.layers).unwrap_or_default();
        let bytes = known.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
        Ok((known.id.ok_or("it has no id")?, layers, bytes))
    }

    /// Gives an image a name.
    async fn call(&self, id: &str, image: &str) -> Result<(), String> {
        let (name, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
        let options = TagImageOptions { repo: Some(name.into()), tag: Some(tag.into()) };
        self.0.tag_image(id, Some(options)).await.map_err(|error| words(&error))
    }
}
