//! Lock-free FIFO and priority structures, and message groups.

pub mod groups;
mod position_bitmap;
