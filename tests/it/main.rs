//! it
mod ca;
mod ca_cli;
mod ca_clients;
mod ca_folder;
mod ca_support;
