//! Lock-free FIFO and priority structures, and message groups.
