//! stub until kinds lands
/// stub
#[derive(Debug, Default)]
pub struct Impact {
    /// x
    pub daemon_reload: bool,
    /// x
    pub reenable: bool,
    /// x
    pub reload: bool,
    /// x
    pub restart: bool,
    /// x
    pub changed: Vec<String>,
}
/// stub
pub fn impact(_: &str, _: &str) -> Impact {
    Impact::default()
}
