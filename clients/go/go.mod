module sluicegate.example/sluicegate

go 1.21
