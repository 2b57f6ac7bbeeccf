//! Builds again when a file of the page comes or goes; those that change are seen without it.

fn main() {
    println!("cargo:rerun-if-changed=page");
}
