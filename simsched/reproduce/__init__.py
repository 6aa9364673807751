"""The paper's tables and figures, and an independent reproduction of them, published beside simulated."""
