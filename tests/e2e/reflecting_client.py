"""A gRPC client that knows no .proto file: it asks the server for its services, as grpcurl does.

    client = ReflectingClient("127.0.0.1:50051")
    client.services()                                        # ["atoll.v1.Inference", ...]
    client.call("atoll.v1.Inference", "Tokenize", text="Hi")        # a message
    for message in client.call("atoll.v1.Inference", "Generate", prompt="Hi"): ...   # a call, for server streams
Errors come as grpc.RpcError.
"""
import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

REFLECTION = "grpc.reflection.v1alpha.ServerReflection"


def reflection_file():
    """The part of grpc/reflection/v1alpha/reflection.proto that is needed, as a descriptor."""
    file = descriptor_pb2.FileDescriptorProto(name="reflection.proto", package="grpc.reflection.v1alpha", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(name, *fields):
        added = file.message_type.add(name=name)
        for field, number, kind, repeated, of in fields:
            added.field.add(name=field, number=number, type=kind, type_name=of,
                            label=kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL)

    prefix = ".grpc.reflection.v1alpha."
    message("Request", ("file_containing_symbol", 4, kinds.TYPE_STRING, False, None),
            ("list_services", 7, kinds.TYPE_STRING, False, None))
    message("Files", ("file_descriptor_proto", 1, kinds.TYPE_BYTES, True, None))
    message("Service", ("name", 1, kinds.TYPE_STRING, False, None))
    message("Services", ("service", 1, kinds.TYPE_MESSAGE, True, prefix + "Service"))
    message("Error", ("error_code", 1, kinds.TYPE_INT32, False, None), ("error_message", 2, kinds.TYPE_STRING, False, None))
    message("Response", ("files", 4, kinds.TYPE_MESSAGE, False, prefix + "Files"),
            ("services", 6, kinds.TYPE_MESSAGE, False, prefix + "Services"),
            ("error", 7, kinds.TYPE_MESSAGE, False, prefix + "Error"))
    return file


class ReflectingClient:
    def __init__(self, address):
        self.channel = grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)])
        self.pool = descriptor_pool.DescriptorPool()
        self.factory = message_factory.MessageFactory(self.pool)
        self.pool.Add(reflection_file())

    def close(self):
        self.channel.close()

    def message_class(self, name):
        return self.factory.GetPrototype(self.pool.FindMessageTypeByName(name))

    def reflect(self, **question):
        request = self.message_class("grpc.reflection.v1alpha.Request")
        response = self.message_class("grpc.reflection.v1alpha.Response")
        call = self.channel.stream_stream(f"/{REFLECTION}/ServerReflectionInfo", request.SerializeToString, response.FromString)
        answer = next(iter(call(iter([request(**question)]), timeout=30)))
        if answer.HasField("error"):
            raise LookupError(answer.error.error_message)
        return answer

    def services(self):
        return [service.name for service in self.reflect(list_services="*").services.service]

    def service(self, name):
        try:
            return self.pool.FindServiceByName(name)
        except KeyError:
            pass
        files = [descriptor_pb2.FileDescriptorProto.FromString(data)
                 for data in self.reflect(file_containing_symbol=name).files.file_descriptor_proto]
        while files:  # those whose imports are known, first
            ready = [f for f in files if not any(d in (other.name for other in files) for d in f.dependency)]
            for file in ready:
                self.pool.Add(file)
                files.remove(file)
        return self.pool.FindServiceByName(name)

    def call(self, service, method, /, timeout=60, **fields):
        described = self.service(service).FindMethodByName(method)
        request = self.message_class(described.input_type.full_name)
        response = self.message_class(described.output_type.full_name)
        path = f"/{service}/{method}"
        if described.server_streaming:
            return self.channel.unary_stream(path, request.SerializeToString, response.FromString)(
                request(**fields), timeout=timeout)
        return self.channel.unary_unary(path, request.SerializeToString, response.FromString)(request(**fields), timeout=timeout)
