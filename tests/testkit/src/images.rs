//! The images that tests and the example run: what is in them, made once and kept.
use crate::image::debian::{Apt, Package};
use crate::image::{Compression, Image, Layer};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// An image that can be made here.
#[derive(Debug)]
pub struct Recipe {
    /// The image's full name.
    pub name: &'static str,
    make: fn(&Packages, &str) -> Image,
}

pub const BUSYBOX: Recipe = Recipe { name: "docker.io/library/busybox:1.36", make: busybox };
/// A web server that says its version; see `HTTPD_2`.
pub const HTTPD: Recipe = Recipe { name: "docker.io/library/httpd:1", make: httpd };
pub const HTTPD_2: Recipe = Recipe { name: "docker.io/library/httpd:2", make: httpd };
pub const POSTGRES: Recipe = Recipe { name: "docker.io/library/postgres:15", make: postgres };
/// nginx with its default page on port 80, and curl.
pub const NGINX: Recipe = Recipe { name: "docker.io/library/nginx:1.22", make: nginx };
/// BIND's tools to ask name servers.
pub const DIG: Recipe = Recipe { name: "docker.io/library/dig:9.18", make: dig };
pub const VISITS: Recipe = Recipe { name: "docker.io/library/visits-web:v1", make: visits };
pub const VISITS_2: Recipe = Recipe { name: "docker.io/library/visits-web:v2", make: visits };

pub const ALL: &[Recipe] = &[BUSYBOX, HTTPD, HTTPD_2, NGINX, DIG, POSTGRES, VISITS, VISITS_2];

/// What all images are made from: a change of any makes them anew.
const INPUTS: &[&str] = &[
    include_str!("images.rs"),
    include_str!("image/mod.rs"),
    include_str!("image/archive.rs"),
    include_str!("image/layer.rs"),
    include_str!("image/debian.rs"),
    include_str!("../../../examples/visits/web/visits.py"),
    include_str!("../../../examples/visits/postgres/entrypoint.sh"),
];

impl Recipe {
    /// The image's OCI archive, made now unless an earlier run has left it.
    ///
    /// Archives are kept in `K8SHOST_IMAGES`, by default `~/.cache/k8shost-images`.
    pub fn archive(&self) -> PathBuf {
        let directory = directory();
        let short = self.name.rsplit('/').next().unwrap_or(self.name).replace(':', "-");
        let path = directory.join(format!("{short}-{}.tar", key()));
        if path.exists() {
            return path;
        }
        std::fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("{directory:?} cannot be made: {error}"));
        // Tests run in many processes; one makes the image, the others wait for it.
        let lock = File::create(directory.join("lock")).expect("the image directory can be written");
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("a file can be locked");
        if !path.exists() {
            let tag = self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
            let mut image = (self.make)(packages(), tag);
            image.name = self.name.into();
            let unfinished = path.with_extension("unfinished");
            std::fs::write(&unfinished, image.archive(Compression::None)).expect("the image directory can be written");
            std::fs::rename(&unfinished, &path).expect("a file can be renamed in its directory");
            remove_old(&directory, short.as_str(), &path);
        }
        path
    }
    /// Unpacks what is in the image into a directory: for programs of it that are to run outside of containers, by chroot.
    pub fn unpack(&self, directory: &Path) {
        let file = File::open(self.archive()).expect("the archive is there");
        let mut blobs = std::collections::BTreeMap::new();
        for entry in tar::Archive::new(file).entries().expect("it is an archive") {
            let mut entry = entry.expect("it is whole");
            let name = entry.path().expect("a path").display().to_string();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).expect("it is whole");
            blobs.insert(name, bytes);
        }
        let json = |name: &str| -> serde_json::Value { serde_json::from_slice(&blobs[name]).expect("it is JSON") };
        let blob = |of: &serde_json::Value| format!("blobs/{}", of["digest"].as_str().expect("a digest").replace(':', "/"));
        let manifest = json(&blob(&json("index.json")["manifests"][0]));
        for layer in manifest["layers"].as_array().expect("layers") {
            let mut layer = tar::Archive::new(&*blobs[&blob(layer)]);
            layer.set_preserve_ownerships(true);
            layer.set_overwrite(true);
            layer.unpack(directory).expect("a layer can be unpacked");
        }
    }
    /// The name as users write it, e.g. `busybox:1.36`.
    pub fn short_name(&self) -> &'static str {
        self.name.strip_prefix("docker.io/library/").unwrap_or(self.name)
    }
}

fn directory() -> PathBuf {
    match std::env::var_os("K8SHOST_IMAGES") {
        Some(path) => path.into(),
        None => Path::new(&std::env::var_os("HOME").expect("HOME is set")).join(".cache/k8shost-images"),
    }
}

/// Removes archives that were made of the same recipe's earlier forms, unless another checkout may still use them.
fn remove_old(directory: &Path, short: &str, newest: &Path) {
    const KEPT: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let same = entry.file_name().to_string_lossy().strip_prefix(short).is_some_and(|rest| rest.len() == "-.tar".len() + key().len());
        let old = entry.metadata().and_then(|metadata| metadata.modified()).is_ok_and(|made| made.elapsed().is_ok_and(|age| age > KEPT));
        if same && old && path != newest {
            // Another process may have been faster.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A short hash of the inputs.
fn key() -> &'static str {
    static KEY: OnceLock<String> = OnceLock::new();
    KEY.get_or_init(|| {
        let mut hash = Sha256::new();
        for input in INPUTS {
            hash.update((input.len() as u64).to_le_bytes());
            hash.update(input);
        }
        format!("{:x}", hash.finalize())[..12].to_owned()
    })
}

/// apt and what the images share.
struct Packages {
    apt: Apt,
    base: Vec<Package>,
}

fn packages() -> &'static Packages {
    static PACKAGES: OnceLock<Packages> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let apt = Apt::new(&directory().join("apt"));
        let base = apt.resolve(&["base-files", "coreutils", "dash", "libc-bin", "tzdata"], NOT_NEEDED);
        Packages { apt, base }
    })
}

/// What packages name as needed for being installed or configured, not for running.
const NOT_NEEDED: &[&str] = &[
    "adduser",
    "debconf",
    "debianutils",
    "dpkg",
    "gcc-12-base",
    "init-system-helpers",
    "lib*-perl",
    "libdb5.3",
    "libgdbm*",
    "libpam-modules*",
    "libperl*",
    "libsasl2-modules-db",
    "libsemanage*",
    "libsepol*",
    "locales",
    "libc-l10n",
    "lsb-base",
    "mawk",
    "openssl",
    "passwd",
    "perl*",
    "postgresql-client-common",
    "postgresql-common",
    "sensible-utils",
    "ssl-cert",
    "sysvinit-utils",
    "tar",
    "ucf",
    "usrmerge",
];
/// Just-in-time compiling in PostgreSQL, which it does without where it is not there: a third of its size.
const JUST_IN_TIME: &[&str] = &["libllvm*", "libz3*"];

impl Packages {
    /// Debian without what installs Debian: a shell, coreutils, the C library, time zones.
    fn base(&self) -> Layer {
        accounts(self.apt.layer(&self.base)).joined_directories()
    }
    /// What is needed on top of the base.
    fn on_base(&self, names: &[&str], without: &[&str]) -> Layer {
        let without = [NOT_NEEDED, without].concat();
        let packages = self.apt.resolve(names, &without).into_iter().filter(|package| !self.base.contains(package));
        self.apt.layer(&packages.collect::<Vec<_>>())
    }
}

/// The accounts, which Debian makes while it is being installed.
fn accounts(layer: Layer) -> Layer {
    let passwd = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n\
        postgres:x:999:999:PostgreSQL:/var/lib/postgresql:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
    let group = "root:x:0:\ndaemon:x:1:\nwww-data:x:33:\npostgres:x:999:\nnogroup:x:65534:\n";
    layer
        .file("etc/passwd", 0o644, passwd)
        .file("etc/group", 0o644, group)
        .file("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files dns\n")
        .directory("root", 0o700)
        .directory("tmp", 0o1777)
        .directory("var/tmp", 0o1777)
        .directory("run", 0o755)
        .directory("proc", 0o555)
        .directory("sys", 0o555)
        .directory("dev", 0o755)
}

/// busybox alone, under the name of each of its commands.
fn busybox(packages: &Packages, _tag: &str) -> Image {
    Image::new("").layer(busybox_layer(packages)).command(&["sh"])
}

fn busybox_layer(packages: &Packages) -> Layer {
    let mut layer = packages.apt.layer(&packages.apt.resolve(&["busybox-static"], &["*c*", "*g*"]));
    layer.retain(|path| path.starts_with("usr/bin/busybox"));
    let commands = commands(&layer);
    let mut layer = accounts(layer).joined_directories().directory("etc", 0o755).directory("home", 0o755).directory("usr/sbin", 0o755);
    for command in commands {
        layer = layer.link(&format!("bin/{command}"), "busybox");
    }
    layer
}

/// The commands that a busybox has, by its own word.
fn commands(layer: &Layer) -> Vec<String> {
    let Some(crate::image::Node::File(program)) = layer.get("bin/busybox") else { panic!("the package busybox-static has no bin/busybox") };
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("busybox");
    std::fs::write(&path, program)
        .and_then(|()| std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)))
        .expect("a file can be written");
    let output = std::process::Command::new(&path).arg("--list").output().expect("busybox runs on this machine");
    String::from_utf8_lossy(&output.stdout).lines().filter(|command| *command != "busybox").map(str::to_owned).collect()
}

/// busybox' web server, whose page is its version: what charts and tests use as "a web server".
fn httpd(packages: &Packages, tag: &str) -> Image {
    let pages = Layer::new().file("www/index.html", 0o644, format!("httpd version {tag}\n")).file("www/healthz", 0o644, "ok\n");
    Image::new("")
        .layer(busybox_layer(packages))
        .layer(pages)
        .entrypoint(&["httpd"])
        .command(&["-f", "-v", "-p", "80", "-h", "/www"])
        .port("80/tcp")
        // As a container's first process it takes no notice of SIGTERM.
        .stop_signal("SIGKILL")
}

fn nginx(packages: &Packages, _tag: &str) -> Image {
    let server = packages.on_base(&["nginx-light", "curl"], &["iproute2", "libpam*", "libldap-common", "publicsuffix", "krb5-locales"]);
    let server = server
        .directory("var/lib/nginx", 0o755)
        .directory("var/log/nginx", 0o755)
        .directory("var/www/html", 0o755)
        .file("var/www/html/index.html", 0o644, "<title>Welcome to nginx!</title>\n")
        .file(
            "etc/nginx/nginx.conf",
            0o644,
            "user www-data;\nworker_processes 1;\npid /run/nginx.pid;\nerror_log /dev/stderr warn;\nevents {}\nhttp { access_log off; server { listen 80; root /var/www/html; } }\n",
        );
    Image::new("").layer(packages.base()).layer(server).command(&["/usr/sbin/nginx", "-g", "daemon off;"]).port("80/tcp").stop_signal("SIGQUIT")
}

fn dig(packages: &Packages, _tag: &str) -> Image {
    Image::new("").layer(packages.base()).layer(packages.on_base(&["bind9-dnsutils"], &[])).command(&["sleep", "infinity"])
}

const POSTGRES_USER: u32 = 999;

fn postgres(packages: &Packages, _tag: &str) -> Image {
    let mut server = packages.on_base(&["postgresql-15"], JUST_IN_TIME);
    server.retain(|path| {
        let left_out = [
            "usr/lib/postgresql/15/lib/bitcode",
            "usr/lib/postgresql/15/lib/llvmjit.so",
            "usr/lib/postgresql/15/lib/llvmjit_types.bc",
            "usr/share/postgresql/15/man",
        ];
        !left_out.iter().any(|left_out| path.starts_with(left_out))
    });
    let server = server
        .directory("var/lib/postgresql/data", 0o700)
        .owned("var/lib/postgresql", POSTGRES_USER, POSTGRES_USER)
        .owned("var/lib/postgresql/data", POSTGRES_USER, POSTGRES_USER)
        .directory("run/postgresql", 0o775)
        .owned("run/postgresql", POSTGRES_USER, POSTGRES_USER)
        .file("usr/local/bin/entrypoint.sh", 0o755, include_str!("../../../examples/visits/postgres/entrypoint.sh"));
    Image::new("")
        .layer(packages.base())
        .layer(server)
        .entrypoint(&["/usr/local/bin/entrypoint.sh"])
        .environment("PATH", "/usr/local/bin:/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .environment("PGDATA", "/var/lib/postgresql/data")
        .environment("LC_ALL", "C.UTF-8")
        .port("5432/tcp")
        // PostgreSQL waits for its clients to leave on SIGTERM; on SIGINT it sends them away and ends cleanly.
        .stop_signal("SIGINT")
}

fn visits(packages: &Packages, tag: &str) -> Image {
    let mut python = packages.on_base(&["python3", "python3-psycopg2"], &["media-types", "libtirpc*", "libnsl2"]);
    python.retain(|path| {
        let left_out = ["test", "lib2to3", "idlelib", "pydoc_data", "ensurepip", "distutils", "turtledemo", "tkinter"];
        !left_out.iter().any(|left_out| path.starts_with(Path::new("usr/lib/python3.11").join(left_out)))
    });
    let application = Layer::new().file("app/visits.py", 0o755, include_str!("../../../examples/visits/web/visits.py"));
    Image::new("")
        .layer(packages.base())
        .layer(python)
        .layer(application)
        .entrypoint(&["/usr/bin/python3", "-u", "/app/visits.py"])
        .environment("VISITS_VERSION", tag.trim_start_matches('v'))
        .environment("PYTHONDONTWRITEBYTECODE", "1")
        .user("65534:65534")
        .port("8080/tcp")
}
