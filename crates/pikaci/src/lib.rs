//! The Pika front end of Jericho CI: catalog, filters, configuration, command line.

pub mod targets;
