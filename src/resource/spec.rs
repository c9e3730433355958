//! What a stack says of one resource, before it is written out for a host.

use crate::base::decode::Reader;
use crate::base::id::{Kind, ResourceId};
use crate::resource::Resource;
use crate::resource::compose::Compose;
use crate::resource::directory::Directory;
use crate::resource::file::File;
use crate::resource::lowering::Lowering;
use crate::resource::packages::Packages;
use crate::resource::site::Site;
use crate::resource::timer::Timer;
use crate::resource::tunnel::Tunnel;
use crate::resource::unit::Unit;

/// One resource as a stack's node describes it.
#[derive(Debug, Clone)]
pub enum Spec {
    /// Debian packages.
    Packages(Packages),
    /// A directory.
    Directory(Directory),
    /// A file or link.
    File(File),
    /// A systemd unit.
    Unit(Box<Unit>),
    /// A systemd timer.
    Timer(Box<Timer>),
    /// An nginx server block.
    Site(Box<Site>),
    /// A Compose project.
    Compose(Box<Compose>),
    /// A Cloudflare tunnel.
    Tunnel(Box<Tunnel>),
}

impl Spec {
    /// The node names that describe resources.
    pub const NODES: [&'static str; 8] =
        ["packages", "directory", "file", "unit", "timer", "site", "compose", "tunnel"];

    /// Reads a node whose name is one of [`Spec::NODES`]. Reports what is wrong with it.
    pub fn decode(reader: Reader<'_>) -> Option<Spec> {
        match reader.name() {
            "packages" => Packages::decode(reader).map(Spec::Packages),
            "directory" => Directory::decode(reader).map(Spec::Directory),
            "file" => File::decode(reader).map(Spec::File),
            "unit" => Unit::decode(reader).map(|unit| Spec::Unit(Box::new(unit))),
            "timer" => Timer::decode(reader).map(|timer| Spec::Timer(Box::new(timer))),
            "site" => Site::decode(reader).map(|site| Spec::Site(Box::new(site))),
            "compose" => Compose::decode(reader).map(|compose| Spec::Compose(Box::new(compose))),
            "tunnel" => Tunnel::decode(reader).map(|tunnel| Spec::Tunnel(Box::new(tunnel))),
            _ => {
                reader.finish();
                None
            }
        }
    }

    /// The kind of the resources it makes.
    pub fn kind(&self) -> Kind {
        match self {
            Spec::Packages(_) => Kind::Packages,
            Spec::Directory(_) => Kind::Directory,
            Spec::File(_) => Kind::File,
            Spec::Unit(_) => Kind::Unit,
            Spec::Timer(_) => Kind::Timer,
            Spec::Site(_) => Kind::Site,
            Spec::Compose(_) => Kind::Compose,
            Spec::Tunnel(_) => Kind::Tunnel,
        }
    }

    /// Whether it has pools whose servers are taken out of them while they are changed.
    pub fn drains(&self) -> bool {
        matches!(self, Spec::Site(site) if site.drains())
    }

    /// The resources this makes on one host: none where it has reported a problem.
    pub fn lower(&self, on: &Lowering<'_>) -> Vec<Resource> {
        match self {
            Spec::Packages(packages) => packages.lower(on),
            Spec::Directory(directory) => directory.lower(on).into_iter().collect(),
            Spec::File(file) => file.lower(on).into_iter().collect(),
            Spec::Unit(unit) => unit.lower(on).into_iter().collect(),
            Spec::Timer(timer) => timer.lower(on).into_iter().collect(),
            Spec::Site(site) => site.lower(on).into_iter().collect(),
            Spec::Compose(compose) => compose.lower(on).into_iter().collect(),
            Spec::Tunnel(tunnel) => tunnel.lower(on).into_iter().collect(),
        }
    }

    /// Where the resources this makes can be reached from the host itself: what `to="unit:go-api"` stands for. To be
    /// called for all specs of a host before any of them is lowered.
    pub fn endpoints(&self, on: &Lowering<'_>) -> Vec<(ResourceId, (String, u16))> {
        match self {
            Spec::Unit(unit) => unit.endpoints(on),
            Spec::Site(site) => site.endpoints(on),
            Spec::Compose(compose) => compose.endpoints(on),
            Spec::Packages(_) | Spec::Directory(_) | Spec::File(_) | Spec::Timer(_) | Spec::Tunnel(_) => Vec::new(),
        }
    }
}
