//! Features through the public API, one module a noun: on real directories, in memory, and on a simulated machine
//! where a fault is needed.

mod support;

mod broker;
mod closing;
mod consumer;
mod damage;
mod fault;
mod group;
mod memory;
mod memory_close;
mod memory_drop;
mod memory_group;
mod memory_model;
mod memory_queue;
mod memory_support;
mod memory_task;
mod producer;
mod regression;
mod segment;
mod ticket;
mod topic;
